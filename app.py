"""The frame of the app: its look, its pages, and the research-use notice."""

import streamlit as st

from cxr_core.ui import widgets

st.set_page_config(
    page_title="Second opinion",
    layout="wide",
    initial_sidebar_state="collapsed",
    # A menu with nothing of its own is hidden, and with it the switch to the light theme.
    menu_items={"About": "A second opinion on a chest radiograph. Runs on this machine only."},
)
page = st.navigation(
    [
        st.Page("pages/read.py", title="Read", default=True),
        st.Page("pages/evaluation.py", title="Evaluation"),
        st.Page("pages/films.py", title="Films"),
        st.Page("pages/models.py", title="Models"),
        st.Page("pages/datasets.py", title="Data folders"),
    ],
    position="top",
)
widgets.frame()
page.run()
