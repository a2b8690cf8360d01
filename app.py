"""The frame of the app: who may enter, its look, its pages, and the research-use notice."""

import streamlit as st

if __name__ == "app":  # imported by `streamlit run app.py`, once: what the server begins with
    from cxr_core.ui import serving

    app = st.App(__file__, lifespan=serving.lifespan, middleware=serving.MIDDLEWARE)
else:  # run for each visitor
    from cxr_core.ui import access, widgets

    st.set_page_config(
        page_title="Second opinion",
        layout="wide",
        initial_sidebar_state="collapsed",
        # A menu with nothing of its own is hidden, and with it the switch to the light theme.
        menu_items={"About": "A second opinion on a chest radiograph. Films stay in its server."},
    )
    pages = [
        st.Page("pages/read.py", title="Read", default=True),
        st.Page("pages/worklist.py", title="Worklist"),
        st.Page("pages/evaluation.py", title="Evaluation"),
        st.Page("pages/films.py", title="Films"),
        st.Page("pages/models.py", title="Models"),
        st.Page("pages/datasets.py", title="Data folders"),
    ]
    visitor = access.visitor()
    # Asked for by its address, too, a page that is not among these does not run.
    allowed = [page for page in pages if visitor.may_see(page.title)]
    page = st.navigation(allowed or pages, position="top" if allowed else "hidden")
    widgets.frame()
    access.enter()
    widgets.missing_models()
    page.run()
