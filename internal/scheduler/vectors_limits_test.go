package scheduler

import "fmt"

func replayLimits(c *vecCase) error { return fmt.Errorf("todo") }
func replayStarts(c *vecCase) error { return fmt.Errorf("todo") }

// replayWeights compares effective priority weights.
func replayWeights(c *vecCase) error {
	r, err := newReplay(c, false)
	if err != nil {
		return err
	}
	rs := r.runs[""]
	if rs.Len() != len(c.EffectiveWeights) {
		return fmt.Errorf("%d instances, want %d", rs.Len(), len(c.EffectiveWeights))
	}
	for name, want := range c.EffectiveWeights {
		_, pos, err := r.find(name)
		if err != nil {
			return err
		}
		if got := r.g.Tasks[rs.At(pos).Task].Weight; got != want {
			return fmt.Errorf("weight of %s is %d, want %d", name, got, want)
		}
	}
	return nil
}
