package scheduler

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/vectors"
)

// shelf keeps the states of the runs of one case in a store, as the engine does: what changed is committed on the
// version that was read, and the next decision is made on what is read back.
type shelf struct {
	ctx   context.Context
	store *store.Store
	g     *Graph
	dag   airflow.DagID
	runs  map[airflow.RunID]*shelved
	trips int
}

type shelved struct {
	version int64
	chunks  [][]byte
}

func (s *shelf) persist(rs *RunState) (*RunState, error) {
	at := s.runs[rs.Header.RunID]
	if at == nil {
		at = &shelved{}
		s.runs[rs.Header.RunID] = at
	}
	for len(at.chunks) < len(rs.Chunks) {
		at.chunks = append(at.chunks, nil)
	}
	var dirty []int
	for i, c := range rs.Chunks {
		if c.Dirty || at.chunks[i] == nil {
			at.chunks[i] = EncodeChunk(rs, i)
			dirty = append(dirty, i)
		}
	}
	s.trips++
	k := store.RunKey{DagID: s.dag, RunID: "run_" + rs.Header.RunID}
	v, err := s.store.CommitRunState(s.ctx, k, at.version, Encode(rs), at.chunks, dirty)
	if err != nil {
		return nil, err
	}
	st, err := s.store.LoadRunState(s.ctx, k)
	if err != nil {
		return nil, err
	}
	if st.Version != v || v != at.version+1 {
		return nil, fmt.Errorf("committed version %d on %d, read version %d", v, at.version, st.Version)
	}
	at.version, at.chunks = v, st.Chunks
	return Decode(s.g, st.Header, st.Chunks)
}

// TestVectorsThroughStore replays recorded cases with every state written and read back between any two decisions: all of
// them in memory, a sample on DynamoDB.
func TestVectorsThroughStore(t *testing.T) {
	dir := vectors.Dir(t, "scheduling")
	var cases []*vecCase
	for _, theme := range []string{"rules", "branch", "mapping", "setup", "past", "failfast", "clear", "mark"} {
		file := filepath.Join(dir, theme+".jsonl")
		if _, err := os.Stat(file); err != nil {
			fmt.Printf("scheduling/%s: not there\n", theme)
			continue
		}
		cases = append(cases, readCases(t, file)...)
	}
	if len(cases) == 0 {
		t.Fatal("no case to replay")
	}
	for _, c := range []struct {
		name   string
		open   func(testing.TB) kv.Driver
		sample int
	}{
		{"mem", func(testing.TB) kv.Driver { return memkv.New(memkv.Options{}) }, len(cases)},
		{"dynamodb", func(t testing.TB) kv.Driver { return dynamotest.Open(t) }, min(150, len(cases))},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := c.open(t)
			t.Cleanup(func() { _ = d.Close() })
			s := store.New(d, nil)
			var passed, excluded, failed, trips int
			for i := range c.sample {
				v := cases[i*len(cases)/c.sample]
				d, err := buildDAG(v.DAG)
				if err != nil {
					t.Fatalf("%s: %v", v.ID, err)
				}
				g, err := Compile(d)
				if err != nil {
					t.Fatalf("%s: %v", v.ID, err)
				}
				sh := &shelf{ctx: t.Context(), store: s, g: g, dag: airflow.DagID(v.ID), runs: map[airflow.RunID]*shelved{}}
				switch err := replayStored(v, false, sh.persist); {
				case err == nil:
					passed++
				case len(v.OrderDependent) > 0:
					excluded++
				default:
					if failed++; failed <= 5 {
						t.Errorf("%s: %v", v.ID, err)
					}
				}
				trips += sh.trips
			}
			fmt.Printf("scheduling through the store on %s: %d passed, %d excluded, %d failed; %d states written and read\n", c.name, passed, excluded, failed, trips)
			if passed == 0 || trips == 0 {
				t.Error("nothing went through the store")
			}
		})
	}
}
