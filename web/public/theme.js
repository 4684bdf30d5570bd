// Sets the theme before the first paint, so that a dark page does not flash white.
(function () {
  var choice = 'system';
  try { choice = localStorage.getItem('gust.theme') || 'system'; } catch { /* storage is off */ }
  var dark = choice === 'dark' || (choice === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
