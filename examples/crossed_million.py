"""A million rows, 50,000 x 5,000 crossed levels, fitted exactly.

Data are drawn from known parameters; the fit has to find them again. The path is chosen, and its
cost predicted, before anything large is allocated.

    python examples/crossed_million.py [--scale 1.0] [--progress]
"""

import argparse
import resource
import sys
import time

import numpy as np
import pandas as pd

import sparselmm as slm
from sparselmm.datasets.problems import crossed_1m


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1 is a million rows")
    parser.add_argument("--progress", action="store_true", help="show a bar (needs tqdm)")
    arguments = parser.parse_args(argv)
    problem = crossed_1m(arguments.scale)

    start = time.perf_counter()
    model = slm.LinearMixedModel(problem.formula, problem.data)
    prepared = time.perf_counter()
    print(model.describe())

    fitting = time.perf_counter()
    fit = model.fit(progress=arguments.progress)
    done = time.perf_counter()
    print(f"\ncross-products and path {prepared - start:.2f} s, fit {done - fitting:.2f} s")
    print(f"peak memory of this process {peak_gibibytes():.2f} GiB\n")
    print(fit.describe().sections[-2])

    print("\nEstimates and the parameters the data were drawn with")
    print(comparison(fit, problem).round(4).to_string())

    effects = fit.ranef(condvar=False)
    largest = effects.loc[effects.groupby("grpvar")["condval"].idxmax()]
    print("\nLargest random effect of each factor")
    print(largest.round(3).to_string(index=False))
    return fit


def comparison(fit, problem):
    """Fixed effects with standard errors, standard deviations, and the truth."""
    sds = fit.tidy("random_sd").set_index("term")["estimate"]
    return pd.DataFrame(
        {
            "estimate": pd.concat([fit.params, sds]),
            "std_error": fit.bse,
            "truth": pd.Series(
                [*problem.beta, *(problem.theta * problem.sigma), problem.sigma],
                index=[*fit.params.index, *sds.index],
            ),
        }
    ).loc[[*fit.params.index, *sds.index]]


def peak_gibibytes():
    """Largest resident size so far; the unit of ru_maxrss depends on the system."""
    unit = 1 if sys.platform == "darwin" else 1024
    return np.float64(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit / 2**30


if __name__ == "__main__":
    main()
