"""The page at `/`: what a run is doing and will do, its history, and a form to edit it.

`static/` is the page itself, as browsers take it: HTML, CSS and ES modules, without a build step. `serving` gives it
out together with plotly.js, which lies in the installed package `plotly`. The page speaks to the service by the REST
API alone, so it needs no token of its own: it asks for one where the service does.
"""

from service.page.serving import page

__all__ = ["page"]
