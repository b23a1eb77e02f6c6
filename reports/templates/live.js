"use strict";
// Take the page anew every so often. Where the server is gone, say so and keep what is there.
{
  const seconds = Number(document.body.dataset.poll);
  let seen = new Date();
  const again = async () => {
    const main = document.querySelector("main");
    try {
      const answer = await fetch(location.href);
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      const page = new DOMParser().parseFromString(text, "text/html");
      const fresh = page.querySelector("main");
      seen = new Date();
      if (fresh.innerHTML !== main.innerHTML) {  // or the focus would be lost for nothing
        document.title = page.title;
        main.replaceWith(fresh);
      }
    } catch (error) {
      document.querySelector("#gone")?.remove();
      const note = Object.assign(document.createElement("p"), { id: "gone", className: "notes" });
      note.textContent = `No answer since ${seen.toLocaleTimeString()}: ${error.message}`;
      main.prepend(note);
    }
    setTimeout(again, seconds * 1000);
  };
  setTimeout(again, seconds * 1000);
}
