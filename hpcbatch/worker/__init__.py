"""What runs inside one array task: score the mini-batches of one group that no ledger has yet."""
