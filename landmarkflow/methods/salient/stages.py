def networks(folds: int) -> tuple[str, ...]:
    """Names of the networks of a run: one, or one for each fold, which never sees that fold."""
    return tuple(f"fold-{fold + 1}" for fold in range(folds)) if folds else ("all",)
