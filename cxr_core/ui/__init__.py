"""What the browser shows: the only part of the library that knows Streamlit.

reading.py  words: an answer, a film's facts, a test record, each in a sentence; no Streamlit
session.py  state: what one reader has on screen, and the models that all readers share
widgets.py  the frame of every page, and the parts of the reading page around the film
viewer.py   the film, its overlay and their controls
record.py   the parts of the evaluation and model pages
style.css   the look
"""
