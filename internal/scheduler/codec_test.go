package scheduler

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// sampleRun has everything the stored form can hold.
func sampleRun(t testing.TB) (*Graph, *RunState) {
	b := task("b", "c")
	b.CanSkipDownstream, b.Retries = true, 3
	d := dagOf(task("a", "b", "m"), b, task("c"), &airflow.Task{TaskID: "m", IsMapped: true, Expand: over(300)}, task("s"))
	g, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	ld := vecEpoch.Add(123456 * time.Microsecond)
	rs := NewRun(g, Header{
		DagID: "d", RunID: "scheduled__x", RunType: airflow.RunTypeScheduled, State: airflow.RunQueued, LogicalDate: &ld, RunAfter: vecEpoch,
		QueuedAt: vecEpoch.Add(time.Second), DagHash: "abc", DagVersion: 3, BackfillID: 9, BackfillOrdinal: 4, ClearNumber: 2, Reason: CodeMarked,
		Deadlines: []Deadline{{Index: 1, At: vecEpoch.Add(time.Hour)}},
	})
	now := vecEpoch.Add(time.Minute)
	StartRun(rs, now)
	Decide(g, rs, Facts{}, now)
	report := func(pos int, r Report) {
		Dispatch(g, rs, []int{pos}, time.Hour, now)
		x := rs.At(pos)
		r.Task, r.MapIndex, r.DispatchSeq = rs.TaskID(g, x), int(x.MapIndex), x.DispatchSeq
		if res := Apply(g, rs, r, ReportLimits{}, now); res.Refused != "" {
			t.Fatal(res.Message)
		}
	}
	report(0, Report{Kind: ReportSuccess, XCom: XComInfo{Pushed: true, Length: 2}})
	report(rs.Find(g, "s", -1), Report{Kind: ReportReschedule, Until: now.Add(time.Minute)})
	Decide(g, rs, Facts{}, now)
	report(rs.Find(g, "b", -1), Report{Kind: ReportSuccess, Choice: &SkipChoice{Kind: ChoiceBranch, Follow: []string{"c"}}})
	report(rs.Find(g, "m", 7), Report{Kind: ReportRunning})
	rs.lengths = map[int32]int32{0: 2}
	return g, rs
}

func encodeAll(rs *RunState) (header []byte, chunks [][]byte) {
	for i := range rs.Chunks {
		chunks = append(chunks, EncodeChunk(rs, i))
	}
	return Encode(rs), chunks
}

func TestStoredFormKeepsEverything(t *testing.T) {
	g, rs := sampleRun(t)
	if len(rs.Chunks) != 2 {
		t.Fatalf("%d chunks", len(rs.Chunks))
	}
	header, chunks := encodeAll(rs)
	got, err := Decode(g, header, chunks)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Header, rs.Header) {
		t.Fatalf("%+v\n%+v", got.Header, rs.Header)
	}
	for p := range rs.Len() {
		a, b := *rs.At(p), *got.At(p)
		a.Flags &^= flagDirty | flagPassing
		b.Flags &^= flagDirty | flagPassing
		if a != b || rs.run.dirty.has(int32(p)) != got.run.dirty.has(int32(p)) || rs.run.passing.has(int32(p)) != got.run.passing.has(int32(p)) {
			t.Fatalf("instance %d: %+v, stored %+v", p, b, a)
		}
	}
	if !reflect.DeepEqual(got.skips, rs.skips) || !reflect.DeepEqual(got.lengths, rs.lengths) || !reflect.DeepEqual(got.rescheduleStart, rs.rescheduleStart) {
		t.Fatalf("%+v", got)
	}
	if err := checkDerived(g, got); err != nil {
		t.Fatal(err)
	}
}

func TestDecodeRefusesWhatIsCut(t *testing.T) {
	g, rs := sampleRun(t)
	header, chunks := encodeAll(rs)
	check := func(what string, header []byte, chunks [][]byte) {
		t.Helper()
		if _, err := Decode(g, header, chunks); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range header {
		check("cut header", header[:i], chunks)
	}
	for i := range chunks[0] {
		check("cut chunk", header, [][]byte{chunks[0][:i], chunks[1]})
	}
	check("too few chunks", header, chunks[:1])
	check("too many chunks", header, append(bytes2(chunks), chunks[1]))
	check("chunks exchanged", header, [][]byte{chunks[1], chunks[0]})
	check("chunk twice", header, [][]byte{chunks[0], chunks[0]})
	check("trailing byte", append(bytes.Clone(header), 0), chunks)
	other := bytes.Clone(header)
	other[0] = 99
	check("other version", other, chunks)
}

func bytes2(b [][]byte) [][]byte { return append([][]byte(nil), b...) }

func TestChunksAreDirtyOnlyWhereSomethingChanged(t *testing.T) {
	g, rs := benchRun(mappedDAG(5 * ChunkSize))
	Decide(g, rs, Facts{}, vecEpoch)
	for _, c := range rs.Chunks {
		c.Dirty = false
	}
	rs.HeaderDirty = false
	finish(g, rs, 3*ChunkSize, vecEpoch)
	for i, c := range rs.Chunks {
		// The join is the last instance; it was examined, not changed.
		if want := i == 3; c.Dirty != want && i != len(rs.Chunks)-1 {
			t.Errorf("chunk %d: dirty %t", i, c.Dirty)
		}
	}
	if rs.HeaderDirty {
		t.Error("the header is dirty")
	}
}

func FuzzDecode(f *testing.F) {
	g, rs := sampleRun(f)
	header, chunks := encodeAll(rs)
	f.Add(header, chunks[0], chunks[1])
	small, smallRun := benchRun(mappedDAG(2))
	Decide(small, smallRun, Facts{}, vecEpoch)
	f.Add(Encode(smallRun), EncodeChunk(smallRun, 0), []byte{})
	f.Fuzz(func(t *testing.T, header, a, b []byte) {
		for _, g := range []*Graph{g, small} {
			for _, chunks := range [][][]byte{nil, {a}, {a, b}} {
				rs, err := Decode(g, header, chunks)
				if err != nil {
					if !errors.Is(err, errCorrupt) {
						t.Fatalf("unexpected error %v", err)
					}
					continue
				}
				// What can be read can be decided on, stored and read again.
				if rs.Header.State == airflow.RunRunning && rs.Len() < 2000 {
					Decide(g, rs, Facts{}, vecEpoch)
				}
				Reasons(g, rs, Facts{}, vecEpoch, nil)
				h, c := encodeAll(rs)
				if _, err := Decode(g, h, c); err != nil {
					t.Fatalf("what was written cannot be read: %v", err)
				}
			}
		}
	})
}
