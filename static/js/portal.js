/* Theme, copy buttons, menus, and what htmx could not load. Every page works without it; what needs it is marked .js-only and hidden otherwise. */
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const isDark = () => (root.dataset.theme === "auto" ? system.matches : root.dataset.theme === "dark");
  const applyTheme = () => root.setAttribute("data-bs-theme", isDark() ? "dark" : "light");

  root.classList.add("js");
  applyTheme(); // runs in <head>, before anything is painted
  system.addEventListener("change", applyTheme);

  const toggleTheme = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax${secure}`;
    applyTheme();
  };

  const copy = async (button) => {
    await navigator.clipboard.writeText(button.dataset.copy);
    const label = button.getAttribute("aria-label");
    button.classList.add("copied");
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.classList.remove("copied");
      button.setAttribute("aria-label", label);
    }, 1500);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-theme-toggle]");
    if (button?.dataset.copy !== undefined) copy(button);
    else if (button) toggleTheme();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  /* A part of the page that could not be loaded says so, until a request succeeds again. */
  const showFailure = (text) => {
    const place = document.querySelector(".messages");
    if (!place) return;
    clearFailure();
    const notice = document.createElement("div");
    notice.id = "request-failure";
    notice.className = "notice tone-danger";
    notice.textContent = text;
    place.append(notice);
  };
  const clearFailure = () => document.getElementById("request-failure")?.remove();

  document.addEventListener("htmx:sendError", () =>
    showFailure("The server cannot be reached. What you see may be out of date."));
  document.addEventListener("htmx:responseError", (event) => {
    const refused = event.detail.xhr.status < 500;
    showFailure(refused
      ? "The server refused this. Nothing was changed. Load the page again to see what is possible now."
      : "The server could not answer this. Try again; an administrator finds the cause in its log.");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) clearFailure();
  });

  /* A request that is given up, because the page is left or a newer one takes its place, is no error; htmx notes one in the console. */
  document.addEventListener("htmx:beforeSend", (event) => {
    const { xhr } = event.detail;
    const onabort = xhr.onabort;
    xhr.onabort = (...details) => {
      const { error } = console;
      console.error = () => {};
      try {
        onabort.apply(xhr, details);
      } finally {
        console.error = error;
      }
    };
  });

  /* Filters that are not set stay out of the address. */
  document.addEventListener("htmx:configRequest", (event) => {
    const { verb, formData } = event.detail;
    if (verb !== "get") return;
    for (const [name, value] of [...formData.entries()]) if (value === "") formData.delete(name);
  });

  /* A question that is open when the page comes takes the keyboard, and Escape closes it. */
  document.addEventListener("DOMContentLoaded", () => {
    const dialog = document.querySelector("dialog[open][data-modal]");
    if (!dialog) return;
    dialog.close();
    dialog.showModal();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (location.hash === "#sidebar") {
      location.hash = "";
    }
  });
})();
