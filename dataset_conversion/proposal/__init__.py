"""A layout file for a folder that nobody has seen, proposed from the names in it.

roles        what a path says an image is of: T1w, FLAIR, …, the mask, or something else
places       which parts of the paths say subject, session and site
expressions  the regular expressions that fit those files and no others
sheet        the sheet about the patients, where one is near
advice       the options of `convert` that the data need
writing      the file, proved by reading it again, and what is said about it
"""
