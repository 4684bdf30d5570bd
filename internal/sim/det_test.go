package sim

import "testing"

// TestDeterminism compares two histories of one seed line by line, so that a
// difference shows where it begins.
func TestDeterminism(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if *seedFlag != 0 {
		seeds = []uint64{*seedFlag}
	}
	for _, seed := range seeds {
		a, b := Run(seed, true), Run(seed, true)
		for i := range min(len(a.Trace), len(b.Trace)) {
			if a.Trace[i] != b.Trace[i] {
				t.Fatalf("seed %d: the histories part at\n%s\nand\n%s", seed, a.Trace[i], b.Trace[i])
			}
		}
		if a.Dump != b.Dump {
			t.Errorf("seed %d: equal histories, different stores", seed)
		}
	}
}
