"""What the browser shows: the only part of the library that knows Streamlit.

reading.py     words: an answer, a film's facts, a test record, each in a sentence; no Streamlit
serving.py     what the server does beside the pages
access.py      who may enter, and what is open to whom
session.py     state: what one reader has on screen, and the models that all readers share
widgets.py     the frame of every page, and the parts of the reading page around the film;
               bars.py its probabilities
reader.py      what the reader makes of an answer; readfirst.py before it is shown
outputs.py     the answer as files, or sent to an archive; report.py what goes into them
worklist/      many films, and what became of them; fetching.py asks an archive for them
viewer.py      the film, its overlay and their controls
charts.py      a test record as charts of the browser, matrices.py its confusion matrices;
               vega.py one chart, numerals.py one number
dashboard/     the parts of the evaluation page, a module for each view or two
record.py      the parts of the model page
selection.py   which test films stand behind a number; gallery.py shows them
datafolder.py  the parts of the page of data folders
style.css      the look
"""
