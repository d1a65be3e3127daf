"""What a team has registered: streams of immutable revisions, and content-addressed snapshots of code and models."""
