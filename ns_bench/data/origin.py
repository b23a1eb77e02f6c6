"""Where the images of a set in files come from: the Hugging Face hub, or a folder of one's own."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ns_bench.data import batches, idx
from ns_bench.data.catalog import hub_sets
from ns_bench.errors import UserError, unknown
from ns_bench.recipe import Files


@dataclass(frozen=True)
class Origin:
    """A data set on the hub, or in the folder `path`."""

    name: str
    path: str | None

    def __str__(self) -> str:
        return f"data set '{self.name}'" + (f" in {self.path}" if self.path else "")

    def open(self, split: str, mapped: bool = False) -> Any:
        """Return a split as a `datasets.Dataset` or, of files, an `IterableDataset` over them.

        If it is to be `mapped`, files are copied into Arrow files first (but for those of a folder
        of images, which stay where they are), in the cache of `datasets`.
        """
        import datasets
        import huggingface_hub

        datasets.logging.set_verbosity_error()
        huggingface_hub.logging.set_verbosity_error()
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        return self._local(split, Path(self.path), mapped) if self.path else self._hub(split)

    def rows(self, split: str, opened: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yield rows with their images undecoded, so that a bad one is not the end."""
        import datasets

        try:
            # in this order: a selection decodes what it selects
            rows = opened.cast_column(columns[0], datasets.Image(decode=False))
            yield from rows.select_columns(columns)
        except UserError:
            raise
        except Exception as error:  # whatever reads the files has errors of its own
            raise UserError(f"{self}: split '{split}' cannot be read: {_line(error)}") from error

    def _hub(self, split: str) -> Any:
        import datasets

        known = hub_sets().get(self.name)
        hub, config = (known.hub, known.config) if known else (self.name, "")
        try:
            return datasets.load_dataset(hub, config or None, split=split)
        except (OSError, ValueError) as error:
            only = f" --include '{config}/*'" if config else ""
            place = self.name.rpartition("/")[2]
            raise UserError(
                f"{self} is not on this machine and cannot be downloaded ({_line(error)}): where "
                f"there is a network run `hf download {hub} --repo-type dataset{only} "
                f"--local-dir {place}`, bring that folder here and add "
                f"--data {self.name}={place}"
            ) from None

    def _local(self, split: str, path: Path, mapped: bool) -> Any:
        import datasets

        for folder in self._inside(path):
            if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                with self._readable(split):
                    saved = datasets.load_from_disk(str(folder))
                splits: dict[Any, Any] = saved if isinstance(saved, dict) else {"train": saved}
                if split not in splits:
                    raise unknown(f"split of {self}:", split, splits)
                return splits[split]
            if idx.images_file(folder, split):
                if mapped:
                    raise UserError(f"{self}: idx files are decoded once, expected data.pixels")
                return idx.open_split(folder, split)
            if batches.files(folder, split):
                if mapped:
                    raise UserError(f"{self}: batches are decoded once, expected data.pixels")
                return batches.open_split(folder, split)
            for kind, suffix in (("parquet", "parquet"), ("webdataset", "tar")):
                shards = sorted(folder.rglob(f"*.{suffix}"))
                if not shards:
                    continue
                # hub copies have train-00000-of-00001.parquet, converters name them SET-train
                word = re.compile(rf"(^|[/._-]){re.escape(split)}([/._-])")
                chosen = [str(f) for f in shards if word.search(f.relative_to(folder).as_posix())]
                if not chosen:
                    raise unknown(f"split of {self}:", split, {f.stem for f in shards})
                with self._readable(split):
                    return datasets.load_dataset(
                        kind, data_files={split: chosen}, split=split, streaming=not mapped
                    )
            if (folder / split).is_dir():
                if outside := self._links(folder / split):
                    print(
                        f"ns_bench: {self}, split '{split}': {outside} files are links that lead "
                        "out of it; they are read where they are",
                        file=sys.stderr,
                    )
                with self._readable(split):
                    # every file: names like train-1.png are taken for splits otherwise
                    return datasets.load_dataset(
                        "imagefolder",
                        data_dir=str(folder / split),
                        data_files={"images": "**"},  # a split of `datasets` is no "."
                        split="images",
                        streaming=not mapped,
                    )
        folders = [entry.name for entry in path.iterdir() if entry.is_dir()]
        if folders:
            raise unknown(f"split of {self}:", split, folders)
        raise UserError(
            f"{self}: expected a folder of save_to_disk, parquet files, tar files (WebDataset), "
            f"idx files ({split}-images-idx3-ubyte.gz), or {split}/CLASS/image.png"
        )

    def _links(self, folder: Path) -> int:
        """Return how many files in a folder, and below, are links that lead out of the data set.

        Raises:
            UserError: a link to a folder or to nothing, which `datasets` leaves out in silence.
        """
        outside = 0
        for entry in os.scandir(folder):
            if entry.is_symlink():
                to = Path(entry.path).resolve()
                if not to.is_file():
                    what = "a folder" if to.is_dir() else "nothing"
                    raise UserError(
                        f"{self}: {entry.path!r} is a link to {what} ({str(to)!r}): expected "
                        "folders and images, or links to images"
                    )
                outside += not to.is_relative_to(Path(self.path or "").resolve())
            elif entry.is_dir():
                outside += self._links(Path(entry.path))
        return outside

    def columns(self, files: Files, there: Iterable[str]) -> tuple[str, str]:
        """Return the names of the columns of images and labels."""
        if self.path and self.name in hub_sets() and set(there) <= {"image", "label"}:
            return "image", "label"  # folders name no columns: they may hold any set of the hub
        return files.image, files.label

    def only_image(self, features: Mapping[str, Any]) -> str | None:
        """Return the name of the column of images, where there is just one."""
        import datasets

        names = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        return names[0] if len(names) == 1 else None

    def _inside(self, path: Path) -> Iterator[Path]:
        """Yield the folder of the configuration, as copies of the hub have it, and the folder."""
        config = hub_sets()[self.name].config if self.name in hub_sets() else ""
        if config and (path / config).is_dir():
            yield path / config
        yield path

    @contextlib.contextmanager
    def _readable(self, split: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever reads the files has errors of its own
            raise UserError(f"{self}: split '{split}' cannot be read: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
