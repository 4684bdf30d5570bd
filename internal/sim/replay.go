package sim

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// replayKey is a series of records: of one run, by one life of a process.
type replayKey struct {
	run  store.RunKey
	proc string
}

// replay decides the steps of a series again from what was recorded of them.
type replay struct{ engine.Replay }

// replay checks that a recorded step, decided again from its inputs, its clock and
// the state that the records before it led to, decides the same and leads to the
// very bytes that are stored. Only marks of what is to be examined again may
// differ: they save work, and a step that changes nothing and is not recorded
// takes them away.
func (c *checker) replay(p *proc, rec engine.Record, written bool) {
	w := c.w
	if w.seed%16 == 0 { // as `gust replay` reads them
		rec = throughJSON(w, rec)
	}
	key := replayKey{rec.Run, p.String()}
	r := c.replays[key]
	if r == nil {
		r = &replay{engine.Replay{Graph: func(hash string) (*scheduler.Graph, error) {
			if g := c.graphs[hash]; g != nil {
				return g, nil
			}
			return nil, fmt.Errorf("no DAG version has the hash %s", hash)
		}}}
		c.replays[key] = r
	}
	out, err := r.Step(rec)
	if err != nil {
		w.fail("step %d of %s: its record cannot be read: %v", rec.Version, rec.Run, err)
	}
	if !out.Decided {
		for _, in := range rec.Inputs {
			if in.Action {
				return // what a person did is recorded by its outcome
			}
		}
		w.fail("step %d of %s cannot be replayed: %s", rec.Version, rec.Run, out.Note)
	}
	if out.Differs {
		w.fail("step %d of %s is decided differently when it is replayed:\nthen %s %s %+v\nnow  %s %s %+v",
			rec.Version, rec.Run, rec.RunState, rec.Reason, rec.Transitions, out.NowRun, out.NowReason, out.Now)
	}
	if !written {
		return
	}
	s := c.runs[rec.Run]
	w.stats.Replayed++
	_, rs := r.State()
	if got := scheduler.Encode(rs); !bytes.Equal(got, s.raw.Header) {
		w.fail("step %d of %s: its replay leads to another header than is stored:\n%x\n%x", rec.Version, rec.Run, got, s.raw.Header)
	}
	if len(rs.Chunks) != len(s.raw.Chunks) {
		w.fail("step %d of %s: its replay leads to %d chunks, %d are stored", rec.Version, rec.Run, len(rs.Chunks), len(s.raw.Chunks))
	}
	for i := range rs.Chunks {
		if got := scheduler.EncodeChunk(rs, i); !bytes.Equal(got, s.raw.Chunks[i]) {
			if diff := c.difference(s, rs); diff != "" {
				w.fail("step %d of %s: its replay leads to another chunk %d than is stored: %s", rec.Version, rec.Run, i, diff)
			}
		}
	}
}

func throughJSON(w *World, rec engine.Record) (out engine.Record) {
	b, err := json.Marshal(rec)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		w.fail("record of step %d of %s: %v", rec.Version, rec.Run, err)
	}
	return out
}

// difference names the first instance in which a state differs from a stored one.
func (c *checker) difference(s *runSnap, now *scheduler.RunState) string {
	var chunks [][]byte
	for i := range now.Chunks {
		chunks = append(chunks, scheduler.EncodeChunk(now, i))
	}
	g, want, err := c.decode(s.key, s.raw.Header, s.raw.Chunks)
	if err != nil {
		return err.Error()
	}
	got, err := scheduler.Decode(g, scheduler.Encode(now), chunks)
	if err != nil {
		return err.Error()
	}
	want.MarkAllDirty()
	got.MarkAllDirty()
	for i := range want.Chunks {
		if a, b := scheduler.EncodeChunk(got, i), scheduler.EncodeChunk(want, i); !bytes.Equal(a, b) {
			for j := range want.Chunks[i].TIs {
				if pos := i*scheduler.ChunkSize + j; *got.At(pos) != *want.At(pos) {
					return fmt.Sprintf("%s is %+v, stored is %+v", want.Key(g, pos), *got.At(pos), *want.At(pos))
				}
			}
			return fmt.Sprintf("%x, stored is %x", a, b)
		}
	}
	return ""
}
