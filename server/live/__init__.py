"""The live view: a web page that reads a run's files as they grow, and writes nothing.

A process of its own beside whatever trains: nothing of a run depends on it. What files say becomes
events, events a `Story` and a `LogStory` by pure folds, those one view, and the view goes to every
browser some two times a second.

`static/` holds what browsers load, from here alone. Its charts are uPlot 1.6.32 by Leon Sorokin
(MIT, `uplot-LICENSE.txt`), `uPlot.iife.min.js` and `uPlot.min.css` of its release as they are.
"""
