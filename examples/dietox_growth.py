"""Growth of 72 pigs, weighed weekly for twelve weeks: do they grow at rates of their own?

Three models of the same growth: a common rate, rates that vary with the starting weight, rates that
vary independently of it. Then two pigs, with what the model says about their last weeks.

    python examples/dietox_growth.py [--scale 0.5]
"""

import argparse

import pandas as pd

import sparselmm as slm

MODELS = {
    "common rate": "Weight ~ Time + (1 | Pig)",
    "own rates": "Weight ~ Time + (Time | Pig)",
    "own rates, uncorrelated": "Weight ~ Time + (Time || Pig)",
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the pigs to keep")
    data = slm.load_dataset("dietox")
    pigs = data["Pig"].cat.categories
    some = pigs[: max(8, round(parser.parse_args(argv).scale * len(pigs)))]
    data = data[data["Pig"].isin(some)]

    fits = {name: slm.lmm(formula, data, reml=False) for name, formula in MODELS.items()}
    table = pd.concat([fit.glance() for fit in fits.values()], keys=fits).droplevel(1)
    print("Three models, by maximum likelihood\n-----------------------------------")
    print(table[["df_model", "log_lik", "aic", "bic", "sigma"]].round(1).to_string())

    fit = slm.lmm(MODELS["own rates"], data)
    print("\nOwn rates, by REML\n------------------")
    print(fit.summary(ddf="satterthwaite"))

    rates = fit.coef()["Pig"]["Time"]
    print(f"\nRates of growth from {rates.min():.2f} to {rates.max():.2f} kg a week", end="")
    print(f" (standard deviation {fit.varcorr['sdcor'][1]:.2f})")

    print("\nThe slowest, the fastest and an unknown pig, in kg\n" + "-" * 50)
    print(weights(fit, [rates.idxmin(), rates.idxmax(), "a new one"]).round(1).to_string())

    evit = slm.lmm("Weight ~ Time * Evit + Time * Cu + (Time | Pig)", data)
    interactions = [name for name in evit.params.index if name.startswith("Time:")]
    print("\nDo vitamin E and copper change the rate of growth?")
    print(evit.wald_test(interactions, ddf="satterthwaite"))
    return fit


def weights(fit, pigs):
    """Expected weights of some pigs over time, one column each."""
    times = [1, 6, 12]
    new = pd.DataFrame([(pig, time) for pig in pigs for time in times], columns=["Pig", "Time"])
    new["Weight"] = fit.predict(new, new_levels="zero")
    return new.pivot(index="Time", columns="Pig", values="Weight")[list(pigs)]


if __name__ == "__main__":
    main()
