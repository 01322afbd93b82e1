"""One module for each kind of edit that a policy asks for: pure, on a `sdpfilter.draft.Draft`."""
