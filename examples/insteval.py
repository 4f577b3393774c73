"""73,421 lecture ratings at ETH Zurich: students, lecturers and departments, three crossed factors.

Do service lectures (given for students of another department) get lower marks? How much do
lecturers differ, and how sure can one be about a single one of them?

    python examples/insteval.py [--scale 0.1]
"""

import argparse
import time

import sparselmm as slm
from sparselmm.datasets.problems import insteval

FORMULA = "y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept:service)"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the students to keep")
    data = insteval(parser.parse_args(argv).scale).data

    model = slm.LinearMixedModel(FORMULA, data)
    print("Before anything is fitted\n-------------------------")
    print(model.describe())

    start = time.perf_counter()
    fit = slm.lmm(FORMULA, data)
    print(f"\nThe fit, {time.perf_counter() - start:.2f} s\n-------")
    print(fit.summary())

    print("\nService lectures\n----------------")
    print(fit.t_test("service"))

    share = fit.varcorr.query("grp != 'Residual'").set_index("grp")["vcov"] / total(fit)
    print("\nShare of the variance of a rating\n---------------------------------")
    print(share.map("{:.1%}".format).to_string())

    lecturers = fit.ranef().query("grpvar == 'd'").sort_values("condval")
    clear = (lecturers["condval"].abs() > 2 * lecturers["condsd"]).sum()
    print(
        f"\n{clear} of {len(lecturers)} lecturers differ from the average by two standard deviations"
    )
    columns = ["grp", "condval", "condsd"]
    print("lowest\n", lecturers[columns].head(3).round(2).to_string(index=False))
    print("highest\n", lecturers[columns].tail(3).round(2).to_string(index=False))
    return fit


def total(fit):
    """Variance of a rating given the fixed effects."""
    return fit.varcorr.loc[fit.varcorr["var2"].isna(), "vcov"].sum()


if __name__ == "__main__":
    main()
