package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

func testLease(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), store.RunKey{DagID: "d#1", RunID: "r"}
	at := epoch.Add(1234567 * time.Nanosecond)
	until := at.Add(30 * time.Second)
	if l, err := s.GetLease(ctx, k); err != nil || l.Held(at) {
		t.Fatalf("before the first: %+v %v", l, err)
	}
	a, mine, err := s.TakeLease(ctx, k, "a", at, until)
	if err != nil || !mine || !a.Held(at) || a.From != 0 || a.Box != 1 {
		t.Fatalf("first: %+v %t %v", a, mine, err)
	}
	if l, mine, err := s.TakeLease(ctx, k, "b", at, until); err != nil || mine || l != a {
		t.Errorf("taken while it is held: %+v %t %v", l, mine, err)
	}
	if err := s.PutMail(ctx, k, a.Box, []store.Mail{{TaskID: "t", MapIndex: 3, DispatchSeq: 1}, {TaskID: "t", MapIndex: 4, DispatchSeq: 2}}, at); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is the same mail
		if err := s.PutMail(ctx, k, a.Box, []store.Mail{{TaskID: "u", MapIndex: airflow.Unmapped, DispatchSeq: 1}}, at); err != nil {
			t.Fatal(err)
		}
	}
	if a, err = s.NextBox(ctx, k, a, until); err != nil || a.From != 1 || a.Box != 2 {
		t.Fatalf("next box: %+v %v", a, err)
	}
	if ms, err := s.ListMail(ctx, k, 1); err != nil || len(ms) != 3 {
		t.Errorf("left in the first box: %+v %v", ms, err)
	}
	for box, want := range map[int64]bool{1: true, 2: false} {
		if has, err := s.HasMail(ctx, k, box); err != nil || has != want {
			t.Errorf("box %d has mail: %t %v", box, has, err)
		}
	}
	// Its owner is silent for too long: the next one works off its boxes.
	late := until.Add(time.Second)
	b, mine, err := s.TakeLease(ctx, k, "b", late, late.Add(time.Minute))
	if err != nil || !mine || b.From != 1 || b.Box != 3 {
		t.Fatalf("after it ended: %+v %t %v", b, mine, err)
	}
	if _, err := s.NextBox(ctx, k, a, until); !errors.Is(err, airflow.ErrConflict) {
		t.Errorf("its old owner goes on: %v", err)
	}
	if err := s.ReleaseLease(ctx, k, a, true); !errors.Is(err, airflow.ErrConflict) {
		t.Errorf("its old owner gives it back: %v", err)
	}
	if err := s.ReleaseLease(ctx, k, b, false); err != nil {
		t.Fatal(err)
	}
	c, mine, err := s.TakeLease(ctx, k, "c", late, late.Add(time.Minute))
	if err != nil || !mine || c.From != 1 || c.Box != 4 {
		t.Fatalf("after it was given back undone: %+v %t %v", c, mine, err)
	}
	if err := s.ReleaseLease(ctx, k, c, true); err != nil {
		t.Fatal(err)
	}
	if d, mine, err := s.TakeLease(ctx, k, "d", late, late.Add(time.Minute)); err != nil || !mine || d.From != 4 || d.Box != 5 {
		t.Errorf("after it was given back: %+v %t %v", d, mine, err)
	}
}

// testChunkVersions: who has an earlier state reads of a wide run what has changed.
func testChunkVersions(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), store.RunKey{DagID: "d", RunID: "r"}
	chunk := func(b byte) []byte {
		out := make([]byte, 4<<10)
		for i := range out {
			out[i] = b
		}
		return out
	}
	chunks := [][]byte{chunk('a'), chunk('b'), chunk('c')}
	if _, err := s.CommitRun(ctx, k, store.RunCommit{Header: []byte("h"), Chunks: chunks, Dirty: []int{0, 1, 2}}); err != nil {
		t.Fatal(err)
	}
	one, err := s.LoadRunState(ctx, k)
	if err != nil || len(one.ChunkVersions) != 3 {
		t.Fatalf("%+v %v", one.ChunkVersions, err)
	}
	chunks[1] = chunk('B')
	v, err := s.CommitRun(ctx, k, store.RunCommit{Base: one.Version, Header: []byte("h2"), Chunks: chunks, Dirty: []int{1}, ChunkVersions: one.ChunkVersions})
	if err != nil {
		t.Fatal(err)
	}
	// What it has of the chunks that did not change is not read: here it is marked.
	have := one
	have.Chunks = [][]byte{[]byte("kept 0"), []byte("kept 1"), []byte("kept 2")}
	two, err := s.LoadRunStateSince(ctx, k, have)
	if err != nil || two.Version != v || string(two.Header) != "h2" {
		t.Fatalf("version %d, header %q: %v", two.Version, two.Header, err)
	}
	if string(two.Chunks[0]) != "kept 0" || string(two.Chunks[1]) != string(chunk('B')) || string(two.Chunks[2]) != "kept 2" {
		t.Errorf("read %.6q %.6q %.6q", two.Chunks[0], two.Chunks[1], two.Chunks[2])
	}
	if want := store.NextChunkVersions(one.ChunkVersions, 3, []int{1}, one.Version); two.ChunkVersions[0] != want[0] || two.ChunkVersions[1] != want[1] || two.ChunkVersions[1] != v || two.ChunkVersions[2] != want[2] {
		t.Errorf("versions %v, expected %v", two.ChunkVersions, want)
	}
	// Who commits without them, as an earlier program, makes all of them count as new.
	if _, err := s.CommitRunState(ctx, k, v, []byte("h3"), chunks, nil); err != nil {
		t.Fatal(err)
	}
	three, err := s.LoadRunStateSince(ctx, k, have)
	if err != nil || string(three.Chunks[0]) != string(chunks[0]) || string(three.Chunks[1]) != string(chunks[1]) {
		t.Errorf("read %.6q %.6q: %v", three.Chunks[0], three.Chunks[1], err)
	}
}
