"""A second opinion on chest radiographs: the library behind the app. A tour, bottom up.

Reading        `images` turns bytes into a `Radiograph`; `phantom` makes one by computation.
               `preprocess` squares it for a network and lays maps back on the film.
Data           `datasets` reads folders of several layouts, splits by patient, decodes once.
Networks       `networks` builds them, `augmentation` varies films, `recipes` says what to train
               on what; `parts` deals the films that train, choose and are scored, `codes` keeps
               what a frozen backbone sees; `training` fits and resumes, `decisions` lets
               validation films choose probabilities and thresholds, `release` scores the test
               split once and registers the model.
Numbers        `calibration` makes probabilities and operating points, `ranking` curves and their
               areas, `evaluation` reports with intervals, `predictions` is the table that all
               are recomputed from.
Models         `cards` reads models/ without TensorFlow; `classifier` loads a network and answers,
               by the graph that `runtime` runs where the bundle carries one.
Trust          `gate` says whether a model may speak about a film; `attribution` where the
               evidence lies; `uncertainty` how far an answer moves when the film does.
Out            `overlays` and `figures` draw, `export` writes files, `screening` answers many
               films, `records` keeps what was read, `ui` holds what the pages share, `service`
               answers over HTTP, `commands` holds what the command line does.

    >>> from pathlib import Path
    >>> from cxr_core.classifier import load_classifier
    >>> from cxr_core.images import load_radiograph
    >>> from cxr_core.preprocess import prepare
    >>> classifier = load_classifier("pediatric-pneumonia")            # doctest: +SKIP
    >>> film = load_radiograph(Path("film.dcm"))                       # doctest: +SKIP
    >>> model_input = prepare(film, classifier.card.preprocessing)     # doctest: +SKIP
    >>> classifier.predict(model_input).labels                         # doctest: +SKIP

Imports point strictly down; tests/test_architecture.py holds the order. Importing this package
imports nothing heavy.
"""
