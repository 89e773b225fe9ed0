"""Overrides that can mean nothing, refused one by one before Hydra reads them."""

from __future__ import annotations

import pytest

from cl_lightning.config.command_line.keys import check_override
from cl_lightning.core.errors import UserError

REFUSED = {
    "=3": "=3 cannot be read: type key=value",
    "extends.run=x": "extends is written by learn=, not typed: type learn=RUN_DIR data.new=FOLDER",
    "extends=null": "extends is written by learn=, not typed: type learn=RUN_DIR data.new=FOLDER",
    "data.sets.root=x": "data.sets.root=x is none of the entries of data.sets: type data.sets.0.root=x",
    "data.order.first=3": "data.order.first=3 is none of the entries of data.order: type 'data.order=[...]'",
    "method=3": "method=3 does not exist: type method= one of bic, classifier_only, daformer_m, ",
    "sweep=[1,seeds]": "sweep=[1,seeds] does not exist: type sweep= one of orders, search, seeds, slurm",
    "debug=null": "debug=null is what holds without it: leave it out",
    "sweep=": "sweep= is what holds without it: leave it out",
    "memory=null": "memory=null, but a run needs one: type memory=none or per_class or total",
    "memory=": "memory=, but a run needs one: type memory=none or per_class or total",
    "memory=[none,total]": (
        "memory=[none,total] are several, but a run has one: type one, or -m memory=none,total for all"
    ),
    "method=schema_wa": "method=schema_wa is the type that options start from, not an option: type method=bic or ",
    "~seed": "~seed is not possible, every option has a value: type seed=VALUE, or leave it out",
    "~method": "~method is not possible, every option has a value: type method= one of bic, classifier_only, ",
    "~data.flip=true": "~data.flip=true is not possible, every option has a value: type data.flip=VALUE, or leave",
    "~sweep=3": "~sweep=3 takes away what is not there: type ~sweep alone, or leave it out",
    f"seed={'1' * 300}": f"seed={'1' * 55}... has a number that is too long: type seed=N with fewer digits",
    "hydra/launcher=3": "hydra/launcher=3 names no option: type hydra/launcher=NAME",
    "hydra.runtime.cwd=x": "hydra.runtime.cwd=x is filled in by Hydra, not typed: leave it out",
    "hydra.overrides=[]": "hydra.overrides=[] is filled in by Hydra, not typed: leave it out",
    "hydra.sweeper=x": "hydra.sweeper=x is not possible: type hydra/sweeper=NAME, or hydra.sweeper.KEY=VALUE",
    "hydra.verbose=3": "hydra.verbose=3 is not possible: type hydra.verbose=true, or the name of a logger",
}


@pytest.mark.parametrize("override", REFUSED, ids=[each[:40] for each in REFUSED])
def test_what_means_nothing_is_refused_in_one_line(override: str) -> None:
    with pytest.raises(UserError) as refused:
        check_override(override)
    assert str(refused.value).startswith(REFUSED[override])


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "+seed=3",
        "data.sets.0.root=x",
        "data.sets=[{name: digits}]",
        "data.increment=[5,5]",
        "method=wa",
        "method=wa,dytox",
        "method='wa'",
        "memory={size: 20}",
        "sweep=[seeds,orders]",
        "~sweep",
        "~sweep=seeds",
        "~debug",
        "~hydra.sweeper.params",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.verbose=true",
        "hydra.verbose=[cl_lightning]",
        f"seed={'1' * 299}",
        f"data.root={'1' * 300}",  # a name, not a number
    ],
    ids=lambda override: override[:40],
)
def test_what_may_mean_something_passes(override: str) -> None:
    check_override(override)
