"""What the study command does: plan, compare with what is on disk, do only what is missing, show
the table, write the report."""

import contextlib
import sys
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ns_bench.arguments import parse, words
from ns_bench.cli.inputs import Setting, find_inputs
from ns_bench.cli.interim import Interim, first_runs
from ns_bench.cli.options import StudyOptions, report_only
from ns_bench.cli.request import Request, StudyAtScale, at_scale, plan_of, read
from ns_bench.design.definition import Design
from ns_bench.design.profile import Profile
from ns_bench.errors import UserError, exit_code
from ns_bench.files import Corrupt, folder
from ns_bench.recipe import own_code
from ns_bench.runs.plan import Plan, make_plan
from ns_bench.runs.store import Store

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

    from ns_bench.verdicts.analysis import Analysis
    from ns_bench.verdicts.looks import Standing


def reconcile(options: StudyOptions) -> int:
    """Plan, compare, do what is missing, show and report; returns the exit code.

    With --json stdout has the results alone, and what else is said goes to stderr.

    Raises:
        UserError: bad input, or an unusable store.
    """
    if not options.json:
        return _reconcile(options)[0]
    from ns_bench.report import results

    with contextlib.redirect_stdout(sys.stderr):
        code, analyses = _reconcile(options)
    print(results.of_studies("study", analyses))
    return code


def _reconcile(options: StudyOptions) -> "tuple[int, list[Analysis]]":
    """Do it; returns the exit code, and the results where there are any to show."""
    request = read(options)
    plan = request.plan()
    _say_other_code(plan)
    if options.dry_run:
        _show(request, plan)
        return 0, []
    if options.status or options.cancel or options.logs:
        from ns_bench.cli import slurm

        return slurm.ask(options, request.store, plan, request.title), []
    damaged = _verify(request, plan) if options.verify else set()
    if not options.read_only:
        again = damaged | _take_back(options, request.store, plan)
        _record_looks(request)
        while (queued := _do_missing(request, again)) is None and options.until_decided:
            request = _next_look(request)
            if not request.plan().missing:
                break
        if queued is not None:
            return queued, _so_far(request) if options.json else []
    concluded = [_conclude(request, study) for study in request.studies]
    worst = 1 if damaged and options.read_only else max(code for code, _ in concluded)
    return worst, [analysis for _, analyses in concluded for analysis in analyses]


def _so_far(request: Request) -> "list[Analysis]":
    """Analyse what a cluster is still at work on."""
    plan, setting = request.plan(), request.setting
    return [_analyse(setting, study, plan) for study in request.studies]


def _priced(request: Request) -> Profile:
    """Return the profile with estimates for the workers that are asked for."""
    profile, cluster = request.setting.profile, request.setting.cluster
    if cluster is None or cluster.speed == 1:
        return profile
    worker = f"a worker of {cluster.name}, {cluster.speed:g} times as fast as {profile.machine}"
    return replace(profile, machine=worker, speed=cluster.speed)


def _show(request: Request, plan: Plan) -> None:
    """Print what would be done, and what it costs; with a cluster the scripts of its jobs, too."""
    from ns_bench.cli.foresight import claim_lines, study_lines
    from ns_bench.cli.prices import plan_lines, run_lines

    profile, cluster, studies = _priced(request), request.setting.cluster, request.studies
    seeds = [len({seed for _, seed in study.recipes}) for study in studies]
    if len(studies) == 1 or request.options.list_runs:
        print(*run_lines(profile, plan), sep="\n")
    if len(studies) > 1:
        rows = [(s.study.name, s.design, s.schedule, s.reported) for s in studies]
        print(*study_lines(rows, plan, profile.estimate), sep="\n")
    print(*plan_lines(request.title, profile, plan, seeds), sep="\n")
    for study in studies:
        if study.standing is not None:
            print(_most(request, study, study.standing))
    if len(studies) == 1 and profile.verdict and not request.options.pilot:
        print(*claim_lines(studies[0].design, studies[0].schedule), sep="\n")
    if cluster is not None:
        from ns_bench.cli import slurm

        slurm.show_scripts(request.store, plan, request.setting.profile, cluster)


def _most(request: Request, study: StudyAtScale, standing: "Standing") -> str:
    """Say to which look the runs above lead, and what may come at most."""
    from ns_bench.cli.prices import time_of
    from ns_bench.verdicts.looks import at_most, schedule_of

    profile = _priced(request)
    last = request.options.max_seeds or schedule_of(study.study, profile).maximum
    more = at_most(study.design, standing, last)
    plan = make_plan(request.store, [*standing.recipes.values(), *more])
    seconds = sum(profile.estimate(run.recipe) for run in plan.missing)
    return (
        f"{study.study.name}: these lead to the look at {standing.seeds} seeds; with those of "
        f"later looks, to {last} seeds, at most {len(plan.missing)} runs, about "
        f"{time_of(seconds)}"
    )


def _next_look(request: Request) -> Request:
    """Judge what is there, put it on record, and see what the looks that follow ask for."""
    setting, store, options = request.setting, request.store, request.options
    studies = [at_scale(s.study, options, setting, store, s.metrics) for s in request.studies]
    request = replace(request, studies=studies)
    _record_looks(request)
    return request


def _record_looks(request: Request) -> None:
    """Put the looks that are complete on record, before anything is done for later ones."""
    from ns_bench.execute.provenance import code
    from ns_bench.verdicts import looks

    for study in request.studies:
        if study.standing is not None:
            looks.record(request.store.root, study.standing.path, code()["git"])


def _take_back(options: StudyOptions, store: Store, plan: Plan) -> set[str]:
    """Say what is damaged, and take back what is to be done again; only here a store is made.

    Returns the finished runs that were taken back.
    """
    forced = store.find(options.force, list(plan.runs.values())) if options.force else None
    Store(store.root)
    for run in plan.runs.values():
        try:
            run.result()
        except Corrupt as damage:
            print(f"ns_bench: {run.id} is not usable: {damage}; it counts as missing")
    if forced:
        forced.discard()
        forced.forgive()
    if options.retry_failed:
        for run_id, state in plan.states.items():
            if state == "failed":
                plan.runs[run_id].forgive()
    return {forced.id} if forced else set()


def _say_other_code(plan: Plan) -> None:
    """Say so where what is done was made by other code than what would be done now."""
    from ns_bench.execute.provenance import other_code

    done = [run for run in plan.runs.values() if plan.states[run.id] in ("done", "unmeasured")]
    results = [result for run in done if (result := run.result()) is not None]
    if differs := other_code(result.provenance for result in results):
        print(f"ns_bench: of {len(results)} finished runs some are of {'; '.join(differs)}")


def _verify(request: Request, plan: Plan) -> set[str]:
    """Hold every file of what is done against its checksum; returns the runs that are damaged.

    But for --read-only, a damaged run is to be done again, and that all held is noted in the store.
    """
    files, damaged = 0, []
    for run in plan.runs.values():
        try:
            result = run.result()
            for name in result.artifacts | result.records if result else ():
                run.artifact(name)
                files += 1
        except Corrupt as damage:
            damaged.append(run)
            print(f"ns_bench: {run.id} is damaged: {damage}")
    print(
        f"verified: {files} files of {len(plan.runs)} runs are whole, {len(damaged)} runs damaged"
    )
    if not request.options.read_only:
        from ns_bench.verdicts.record import note_verified

        for run in damaged:
            run.discard()
        for study in request.studies if files and not damaged else ():
            note_verified(request.store, study.study, request.setting.profile)
    return {run.id for run in damaged}


def _do_missing(request: Request, again: Set[str]) -> int | None:
    """Do what is missing, or hand it to the cluster: then the exit code while it is at work.

    Runs `again` were done, and were taken back.
    """
    plan, setting = request.plan(), request.setting
    if plan.missing:
        find_inputs([run.recipe for run in plan.missing], request.options.runs, setting.paths)
    own_code.keep(
        (group for study in request.studies for group in study.metrics), request.store.root
    )
    if setting.cluster is not None:
        from ns_bench.cli import slurm

        study = Path(request.options.study or "")
        own = {study.name: study, **own_code.found()} if study.suffix == ".py" else {}
        report = WriteReport(words(report_only(request.options)), own)
        return slurm.submit(
            request.options, request.store, request.plan, setting, request.title, report, again
        )
    if plan.missing:
        _train(request, plan)
    return None


def _train(request: Request, plan: Plan) -> None:
    from ns_bench.cli.terminal import line, live, table
    from ns_bench.execute.local import Progress, default_workers, execute

    options, seconds = request.options, request.setting.profile.estimate
    study = request.studies[0]  # of several, the first: one after another is what they are for
    workers = options.workers or default_workers()
    first = first_runs(study.design, study.recipes, plan, seconds, workers)
    if options.pilot:  # a pilot has no table
        first = []

    def show_interim() -> None:
        table(_analyse(request.setting, study, request.plan()), interim=True)

    interim = Interim([*first], plan, show_interim)
    with live(lambda progress: line(request.title, plan, progress)) as show_line:

        def show(progress: Progress) -> None:
            show_line(progress)
            interim.look(progress.done)

        execute(
            plan.missing,
            seconds,
            workers=workers,
            execution=options.execution,
            hang_seconds=options.hang_seconds,
            show=show,
            first=first,
        )


def _conclude(request: Request, study: StudyAtScale) -> "tuple[int, list[Analysis]]":
    """Show what came of a study and write its report; returns the exit code, and its results."""
    plan = plan_of(request.store, [study])
    analyses = []
    if request.options.pilot:
        _show_pilot(request, study, plan)
    else:
        analyses.append(_report(request, study, plan))
    return 1 if plan.counts().keys() & {"failed", "blocked"} else 0, analyses


def _show_pilot(request: Request, study: StudyAtScale, plan: Plan) -> None:
    from ns_bench.verdicts.pilot import lines, needs, table_of

    metrics = {claim.metric for claim in study.design.claims}
    tables = {metric: table_of(plan, study.recipes, metric) for metric in metrics}
    seeds = needs(study.design, tables, study.seeds)
    name, profile = study.study.name, request.setting.profile
    print(f"{name} · {profile.name}, pilot of {request.options.pilot} tuning seeds:")
    print("\n".join(lines(seeds, study.seeds) or ["no claim has two seeds with all of its runs"]))


def _report(request: Request, study: StudyAtScale, plan: Plan) -> "Analysis":
    from ns_bench.cli import terminal
    from ns_bench.report.page import write
    from ns_bench.verdicts.sources import folder_name

    options = request.options
    analysis = _analyse(request.setting, study, plan)
    if not study.tuned:
        analysis = _recorded(request, study, analysis)
    terminal.table(analysis)
    name = folder_name(study.study, analysis.profile) + ("-tuned" if study.tuned else "")
    folder = options.out / name if options.out else options.runs / "reports" / name
    if options.out or not options.read_only:  # read-only leaves the store alone
        try:
            print(f"report: {write(analysis, folder)}")
        except OSError as error:
            raise UserError(f"report {folder} cannot be written: {error.strerror}") from None
    return analysis


def _recorded(request: Request, study: StudyAtScale, analysis: "Analysis") -> "Analysis":
    """Put the verdicts at a fixed number of seeds on record, too; add what is on record to them."""
    from ns_bench.execute.provenance import code
    from ns_bench.verdicts import looks

    store = request.store
    judged = analysis.fixed and analysis.profile.verdict and not analysis.unfinished
    if judged and analysis.claims and not request.options.read_only:
        looks.record(store.root, [analysis], code()["git"])
    return looks.with_record(analysis, study.design, store)


def _analyse(setting: Setting, study: StudyAtScale, plan: Plan) -> "Analysis":
    from ns_bench.verdicts.analysis import Tuning, analyse
    from ns_bench.verdicts.table import collect

    schedule = study.standing.schedule if study.standing else None

    def of(design: Design) -> "Analysis":
        tables = collect(design, plan, study.seeds)
        return analyse(
            *(study.study, setting.profile, design, *tables, study.seeds),
            setting.changed,
            schedule,
        )

    analysis = of(study.design)
    if study.tuned is not None:
        analysis = replace(analysis, tuning=Tuning(study.tuned, of(study.tuned.before)))
    return analysis


class WriteReport:
    """The job that writes a report once the jobs of its study have ended, however they ended.

    A study of one's own, and the code that it names, are read as they were when it was submitted.

    Attributes:
        own: these files, by the names that they have in the folder `own` of the submitted code.
    """

    def __init__(self, arguments: list[str], own: dict[str, Path] | None = None) -> None:
        self.arguments, self.own = arguments, own or {}

    def __call__(self) -> int:
        options = parse(StudyOptions, self.arguments)
        copy = folder("own") / Path(options.study or "").name
        if self.own and copy.is_file():
            own_code.look_in(copy.parent, first=True)
            options = replace(options, study=str(copy))
        return exit_code(lambda: reconcile(options), "stopped")

    def checkpoint(self) -> "DelayedSubmission":
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(WriteReport(self.arguments, self.own))
