"""What the browser shows: the only part of the library that knows Streamlit.

reading.py     words: an answer, a film's facts, a test record, each in a sentence; no Streamlit
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

import sys


def _leave_old_navigation() -> None:
    """Have a server whose first visitor came by a page's own address start with app.py.

    Until app.py has run once, Streamlit (1.67) takes the folder pages/ for its older kind of
    app and would show that page alone, without the frame and its research-use notice.
    """
    pages = sys.modules.get("streamlit.runtime.pages_manager")
    if pages is not None and pages.PagesManager.uses_pages_directory:
        import streamlit as st

        pages.PagesManager.uses_pages_directory = False
        st.rerun()


_leave_old_navigation()
