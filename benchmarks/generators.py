"""Tables of the benchmark cases, simulated from fixed seeds.

Every generator returns a DataFrame whose factors are categoricals with sorted labels, so that each program
sees the same levels in the same order, and whose response is rounded to 4 decimals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

# Standard deviations of the multi-environment trials.
MET_SD = {"gen": 2.0, "gen:env": 1.5, "env:rep": 0.7, "env:rep:block": 1.0, "residual": 2.0}


def factor(codes: np.ndarray, prefix: str, count: int) -> pd.Categorical:
    """Codes (n,) in 0..count-1 as a categorical with labels prefix01, prefix02 ..., empty levels dropped."""
    width = len(str(count))
    labels = [f"{prefix}{i + 1:0{width}d}" for i in range(count)]
    return pd.Categorical(np.array(labels)[codes])


def met_trials(
    genotypes: int,
    environments: int,
    replicates: int = 2,
    block_size: int = 10,
    *,
    tested: int | None = None,
    seed: int = 20260101,
) -> pd.DataFrame:
    """Multi-environment trial in incomplete blocks: environments x replicates x genotypes in random order.

    Parameters
    ----------
    genotypes, environments, replicates, block_size : int
    tested : int, optional
        Genotypes drawn for each environment (sparse testing); default all.
    """
    rng = np.random.default_rng(seed)
    tested = genotypes if tested is None else tested
    n_blocks = -(-tested // block_size)
    block_in_rep = np.arange(tested) // block_size
    parts = []
    for trial in range(environments):
        chosen = rng.choice(genotypes, tested, replace=False) if tested < genotypes else np.arange(genotypes)
        for replicate in range(replicates):
            in_order = rng.permutation(chosen)
            parts.append(
                np.array([np.full(tested, trial), np.full(tested, replicate), block_in_rep, in_order])
            )
    e, r, b, g = np.concatenate(parts, axis=1)
    y: np.ndarray = 50.0 + rng.normal(0.0, 8.0, environments)[e]
    y += rng.normal(0.0, MET_SD["gen"], genotypes)[g]
    y += rng.normal(0.0, MET_SD["gen:env"], (genotypes, environments))[g, e]
    y += rng.normal(0.0, MET_SD["env:rep"], (environments, replicates))[e, r]
    y += rng.normal(0.0, MET_SD["env:rep:block"], (environments, replicates, n_blocks))[e, r, b]
    y += rng.normal(0.0, MET_SD["residual"], y.size)
    return pd.DataFrame(
        {
            "env": factor(e, "E", environments),
            "rep": factor(r, "R", replicates),
            "block": factor(b, "B", n_blocks),
            "gen": factor(g, "G", genotypes),
            "y": y.round(4),
        }
    )


def family_trials(
    trees: int = 190_000, trials: int = 31, mothers: int = 1_200, blocks: int = 25, *, seed: int = 20260102
) -> pd.DataFrame:
    """Open-pollinated families in forest trials of single-tree plots, a sample of mothers in each.

    Every trial grows the same number of mothers, one tree of each in every block; trees die at random until
    `trees` are left.
    """
    rng = np.random.default_rng(seed)
    grown = -(-trees // (trials * blocks))
    grown += max(1, grown // 50)
    mother = np.concatenate(
        [np.repeat(rng.choice(mothers, grown, replace=False), blocks) for _ in range(trials)]
    )
    trial = np.repeat(np.arange(trials), grown * blocks)
    block = np.tile(np.arange(blocks), trials * grown)
    alive = np.sort(rng.choice(trial.size, trees, replace=False))
    mother, trial, block = mother[alive], trial[alive], block[alive]
    y = 180.0 + rng.normal(0.0, 25.0, trials)[trial]
    y += rng.normal(0.0, 8.0, (trials, blocks))[trial, block]
    y += rng.normal(0.0, 7.0, mothers)[mother]
    y += rng.normal(0.0, 5.0, (trials, mothers))[trial, mother]
    y += rng.normal(0.0, 30.0, trees)
    return pd.DataFrame(
        {
            "trial": factor(trial, "T", trials),
            "block": factor(block, "B", blocks),
            "mother": factor(mother, "M", mothers),
            "dbh": y.round(4),
        }
    )


def zipf_ratings(
    rows: int = 1_000_000,
    users: int = 6_000,
    items: int = 3_700,
    *,
    exponent: float = 0.75,
    seed: int = 20260103,
) -> pd.DataFrame:
    """Crossed ratings: distinct (user, item) pairs, activity and popularity falling as rank^-exponent."""
    rng = np.random.default_rng(seed)
    p_user = np.arange(1, users + 1) ** -exponent
    p_item = np.arange(1, items + 1) ** -exponent
    p_user /= p_user.sum()
    p_item /= p_item.sum()
    # every user and every item has at least one rating
    pairs = np.unique(
        np.concatenate(
            (
                np.arange(users) * items + rng.choice(items, users, p=p_item),
                rng.choice(users, items, p=p_user) * items + np.arange(items),
            )
        )
    )
    while pairs.size < rows:
        more = 2 * (rows - pairs.size) + 100
        drawn = rng.choice(users, more, p=p_user) * items + rng.choice(items, more, p=p_item)
        fresh = np.setdiff1d(drawn, pairs)
        pairs = np.union1d(pairs, rng.permutation(fresh)[: rows - pairs.size])
    pairs = rng.permutation(pairs)
    user, item = pairs // items, pairs % items
    user, item = rng.permutation(users)[user], rng.permutation(items)[item]
    y = (
        3.5
        + rng.normal(0.0, 0.45, users)[user]
        + rng.normal(0.0, 0.6, items)[item]
        + rng.normal(0.0, 0.9, rows)
    )
    return pd.DataFrame({"user": factor(user, "u", users), "item": factor(item, "i", items), "y": y.round(4)})


def insteval_twin(
    rows: int = 73_421, students: int = 2_972, lecturers: int = 1_128, *, seed: int = 20260104
) -> pd.DataFrame:
    """Students who rate lecturers, of the size and shape of lme4's InstEval."""
    rng = np.random.default_rng(seed)
    table = zipf_ratings(rows, students, lecturers, exponent=0.5, seed=seed)
    service = rng.integers(0, 2, rows)
    rating = table["y"].to_numpy() - 0.1 * service
    return pd.DataFrame(
        {
            "s": factor(table["user"].cat.codes.to_numpy(), "s", students),
            "d": factor(table["item"].cat.codes.to_numpy(), "d", lecturers),
            "service": factor(service, "sv", 2),
            "y": np.clip(np.round(rating), 1, 5),
        }
    )


def crossed_treatments(rows: int, *, seed: int = 20260105) -> pd.DataFrame:
    """Treatments on genotypes at locations: every genotype with every treatment at every location.

    Rows are 4 treatments x 15 locations x rows / 60 genotypes.
    """
    rng = np.random.default_rng(seed)
    locations, treatments = 15, 4
    genotypes = rows // (locations * treatments)
    g, loc, t = (
        a.ravel()
        for a in np.meshgrid(np.arange(genotypes), np.arange(locations), np.arange(treatments), indexing="ij")
    )
    y = 10.0 + np.array([0.0, 0.3, 0.5, 0.9])[t]
    y += rng.normal(0.0, 1.0, genotypes)[g] + rng.normal(0.0, 0.8, locations)[loc]
    y += rng.normal(0.0, 0.7, (genotypes, locations))[g, loc] + rng.normal(0.0, 1.0, y.size)
    # one plot in a hundred is lost, so that nothing is balanced
    keep = np.sort(rng.choice(y.size, y.size - y.size // 100, replace=False))
    return pd.DataFrame(
        {
            "trt": factor(t, "T", treatments),
            "gen": factor(g, "G", genotypes),
            "loc": factor(loc, "L", locations),
            "y": y.round(4),
        }
    ).iloc[keep]


def one_trial(
    genotypes: int = 60, replicates: int = 3, block_size: int = 6, *, seed: int = 20260106
) -> pd.DataFrame:
    """One trial in incomplete blocks: 180 plots of 60 genotypes."""
    table = met_trials(genotypes, 1, replicates, block_size, seed=seed)
    return table.drop(columns="env")


def herd(
    animals: int, generations: int, sires: int, traits: int = 1, *, seed: int = 20260110
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pedigree id, sire, dam and one record of every animal: sex, generation, y1, y2, ...

    Every generation has as many animals; `sires` males and any females of the one before are its parents.
    """
    rng = np.random.default_rng(seed)
    generation = np.arange(animals) * generations // animals
    sex = rng.integers(0, 2, animals)
    sire, dam = np.full((2, animals), -1)
    T, R = (np.full((traits, traits), own) for own in (0.4, 0.6))
    np.fill_diagonal(T, 1.0)
    np.fill_diagonal(R, 2.0)
    u = rng.normal(size=(animals, traits)) @ np.linalg.cholesky(T).T
    for g in range(1, generations):
        own, before = np.flatnonzero(generation == g), np.flatnonzero(generation == g - 1)
        males, females = (before[sex[before] == s] for s in (0, 1))
        used = rng.choice(males, min(sires, males.size), replace=False)
        sire[own], dam[own] = rng.choice(used, own.size), rng.choice(females, own.size)
        u[own] = 0.5 * (u[sire[own]] + u[dam[own]]) + np.sqrt(0.5) * u[own]
    y = 10.0 + 0.5 * sex[:, None] + 0.2 * generation[:, None] + u
    y = (y + rng.normal(size=y.shape) @ np.linalg.cholesky(R).T).round(4)
    name = np.array([f"a{i + 1:07d}" for i in range(animals)] + [""], dtype=object)
    pedigree = pd.DataFrame({"id": name[:-1], "sire": name[sire], "dam": name[dam]})
    records = {
        "animal": name[:-1],
        "sex": np.array(["m", "f"])[sex],
        "generation": factor(generation, "g", 9),
    }
    return pedigree, pd.DataFrame({**records, **{f"y{t + 1}": y[:, t] for t in range(traits)}})


def progeny_trial(
    trees: int = 1_000, parents: int = 60, blocks: int = 16, *, seed: int = 20260111
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A pedigree ID, SIRE, DAM of trees from controlled crosses, and their heights in unequal blocks."""
    rng = np.random.default_rng(seed)
    sire, dam = rng.integers(0, parents // 2, trees), rng.integers(parents // 2, parents, trees)
    block = rng.integers(0, blocks, trees)
    breeding = rng.normal(0.0, 25.0, parents)
    height = 500.0 + rng.normal(0.0, 30.0, blocks)[block] + 0.5 * (breeding[sire] + breeding[dam])
    height += rng.normal(0.0, 25.0 / np.sqrt(2.0), trees) + rng.normal(size=trees) * (25.0 + 3.0 * block)
    names = [f"P{i + 1:03d}" for i in range(parents)], [f"T{i + 1:04d}" for i in range(trees)]
    rows = {"SIRE": np.array(names[0])[sire], "DAM": np.array(names[0])[dam]}
    pedigree = pd.DataFrame({"ID": names[1], **rows})
    table = pd.DataFrame({"ID": names[1], "BLOC": factor(block, "B", blocks), "height": height.round(2)})
    return pedigree, table


def visits(subjects: int, number: int, *, missing: float = 0.15, seed: int = 20260112) -> pd.DataFrame:
    """Repeated measures of two arms at `number` visits; whom drops out stays away."""
    rng = np.random.default_rng(seed)
    distance = np.abs(np.subtract.outer(np.arange(number), np.arange(number)))
    sd = np.linspace(1.0, 2.0, number)
    root = np.linalg.cholesky(0.8**distance * np.outer(sd, sd))
    y = 10.0 + rng.normal(size=(subjects, number)) @ root.T
    arm = np.arange(subjects) % 2
    y += 0.1 * arm[:, None] * np.arange(number)
    last = np.where(rng.random(subjects) < missing, rng.integers(1, number, subjects), number)
    subject, visit = np.nonzero(np.arange(number) < last[:, None])
    columns = {"subject": factor(subject, "S", subjects), "arm": np.array(["A", "B"])[arm[subject]]}
    return pd.DataFrame({**columns, "visit": factor(visit, "V", number), "y": y[subject, visit].round(4)})


def genomic_lines(
    lines: int, markers: int, environments: int = 1, replicates: int = 2, *, seed: int = 20260113
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marker codes 0, 1, 2 by line, and records of all lines in every environment."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.05, 0.95, markers)
    M = rng.binomial(2, frequency, (lines, markers)).astype(np.int8)
    effects = rng.normal(size=(markers, 1 + environments)) / np.sqrt(2 * np.sum(frequency * (1 - frequency)))
    values = (M - 2.0 * frequency) @ effects
    g, e = (x.ravel() for x in np.meshgrid(np.arange(lines), np.arange(environments), indexing="ij"))
    g, e = np.repeat(g, replicates), np.repeat(e, replicates)
    sd = rng.uniform(0.7, 2.0, environments)
    y = 10.0 + values[g, 0] + 0.7 * values[g, 1 + e] + sd[e] * rng.normal(size=g.size)
    names = np.array([f"L{i + 1:05d}" for i in range(lines)])
    table = {"gen": names[g], "env": factor(e, "E", environments), "y": y.round(4)}
    return pd.DataFrame(M, index=names), pd.DataFrame(table)


def sparse_testing(
    lines: int = 884, environments: int = 24, records: int = 12_354, *, seed: int = 20260114
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Marker codes of lines in families of twelve parents, and one record of a share of them everywhere.

    The size of the factor-analytic example on ASReml 4.3's pages: 24 environments, 884 lines, 12,354 records.
    """
    rng = np.random.default_rng(seed)
    parents = rng.binomial(1, 0.4, (12, 60, 25))  # chromosome segments of 25 markers
    family = np.arange(lines) // 20
    pair = rng.integers(0, 12, (lines // 20 + 1, 2))[family]
    from_second = rng.integers(0, 2, (lines, 60))
    M = 2 * np.where((from_second == 0)[:, :, None], parents[pair[:, 0]], parents[pair[:, 1]]).reshape(
        lines, -1
    )
    Z = (M - M.mean(axis=0)) / np.sqrt(M.var(axis=0).sum())
    common, own = Z @ rng.normal(size=Z.shape[1]), Z @ rng.normal(size=(Z.shape[1], environments))
    values = np.outer(common, 0.8 + 0.3 * rng.normal(size=environments)) + 0.5 * own
    per = np.diff(np.linspace(0, records, environments + 1).round().astype(int))
    g = np.concatenate([rng.choice(lines, size, replace=False) for size in per])
    e = np.repeat(np.arange(environments), per)
    sd = rng.uniform(0.7, 1.2, environments)
    y = 5.0 + rng.normal(size=environments)[e] + values[g, e] + sd[e] * rng.normal(size=g.size)
    names = np.array([f"L{i + 1:04d}" for i in range(lines)])
    table = {"gen": names[g], "env": factor(e, "E", environments), "y": y.round(4)}
    return pd.DataFrame(M.astype(np.int8), index=names), pd.DataFrame(table)


def factor_trials(
    genotypes: int, environments: int, *, block: int = 50, seed: int = 20260115
) -> pd.DataFrame:
    """Genotypes in two replicates of blocks in every environment, three factors behind their values."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(environments, 3)) * [0.5, 0.4, 0.3] + [0.8, 0.0, 0.0]
    values = rng.normal(size=(genotypes, 3)) @ loadings.T + 0.4 * rng.normal(size=(genotypes, environments))
    parts, level = [], rng.normal(size=environments)
    for e in range(environments):
        for replicate in range(2):
            place = rng.permutation(genotypes) // block
            effect = 0.5 * rng.normal(size=genotypes // block + 1)
            y = 5.0 + level[e] + values[:, e] + effect[place] + rng.normal(size=genotypes)
            names = [f"E{e + 1:02d}R{replicate + 1}B{b + 1:03d}" for b in place]
            parts.append(
                pd.DataFrame({"gen": np.arange(genotypes), "env": e, "block": names, "y": y.round(4)})
            )
    table = pd.concat(parts, ignore_index=True)
    gen, env = table["gen"].to_numpy(), table["env"].to_numpy()
    return table.assign(gen=factor(gen, "G", genotypes), env=factor(env, "E", environments))


def field_trials(
    fields: int, rows: int = 25, columns: int = 40, genotypes: int = 500, *, seed: int = 20260116
) -> pd.DataFrame:
    """Fields of rows x columns with autocorrelated residuals of their own, 5 % of the plots lost."""
    rng = np.random.default_rng(seed)
    main, parts = rng.normal(size=genotypes), []
    row, column = np.divmod(np.arange(rows * columns), columns)

    def half(size: int, rho: float) -> np.ndarray:
        return np.linalg.cholesky(rho ** np.abs(np.subtract.outer(np.arange(size), np.arange(size))))

    for e in range(fields):
        g = rng.permutation(np.arange(rows * columns) % genotypes)
        trend = half(rows, rng.uniform(0.5, 0.8)) @ rng.normal(size=(rows, columns))
        trend = trend @ half(columns, rng.uniform(0.4, 0.8)).T
        y = (
            rng.normal()
            + main[g]
            + 0.7 * rng.normal(size=genotypes)[g]
            + rng.uniform(0.8, 1.4) * trend.ravel()
        )
        table = {"env": e, "row": row + 1, "col": column + 1, "gen": g, "y": y.round(4)}
        parts.append(pd.DataFrame(table)[rng.random(y.size) > 0.05])
    table = pd.concat(parts, ignore_index=True)
    gen, env = table["gen"].to_numpy(), table["env"].to_numpy()
    return table.assign(gen=factor(gen, "G", genotypes), env=factor(env, "E", fields))
