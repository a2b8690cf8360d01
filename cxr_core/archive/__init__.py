"""DICOM over a network: films come in, answers go out.

listener.py takes films that are sent here (C-STORE), web.py asks an archive for films (QIDO-RS,
WADO-RS), sending.py sends answers to an archive (C-STORE, STOW-RS). inbox.py is the folder that
films come to, settings.py what the site says of its network, kinds.py what counts as a film.
"""
