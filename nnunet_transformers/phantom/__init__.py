"""A synthetic look-alike of ATLAS R2.0: realistic enough to try the whole pipeline, free of patient data.

    template.py      the ICBM 2009a maps from nilearn's wheel
    fields.py        grids and smooth random fields
    anatomy.py       a subject's healthy brain: the template deformed
    lesions.py       generated infarcts;  mask_shapes.py: those of real masks
    head.py          skull, scalp, neck
    acquisition.py   the scanner
    subject.py       all of these put together
    tree.py          names, folders, files

docs/phantom.md says what is modelled and what is not.
"""

from nnunet_transformers.phantom.errors import PhantomError
from nnunet_transformers.phantom.lesions import VOLUMES_ML
from nnunet_transformers.phantom.tree import write_phantom

__all__ = ["VOLUMES_ML", "PhantomError", "write_phantom"]
