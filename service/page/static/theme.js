// Light or dark, before anything is drawn: what was chosen here before, or else what the system says.
{
  const chosen = localStorage.getItem("switchpoint-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
