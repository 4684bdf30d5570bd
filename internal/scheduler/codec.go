package scheduler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// The stored form of a run is a header and one block per chunk, so that a step
// writes only what changed. All numbers are varints (zig-zag where they may be
// negative), texts are length and bytes, times are microseconds relative to an
// earlier one. Every block begins with a version byte.
//
//	header  version, flags of optional dates, dag_id, run_id, run_type, state,
//	        run_after, optional dates relative to it, hash, version, backfill,
//	        clear_number, reason, deadlines, gone tasks, recorded lengths, instances
//	chunk   version, instances, base time, instances in order, branch choices,
//	        reschedule starts
//	instance one byte: state (4 bits) and what follows: task and index unless
//	        they continue the previous instance, tries, times, the rest
const codecVersion = 1

const (
	maxTextLen = 1 << 10
	// MaxMapIndex is the largest map index: expansions to more instances count
	// as not expandable.
	MaxMapIndex = 1<<20 - 1
)

const (
	tiJump  = 1 << 4 // task and map index do not continue the previous instance's
	tiTries = 1 << 5
	tiTimes = 1 << 6
	tiRest  = 1 << 7
)

// Encode writes the header of a run: everything but its chunks.
func Encode(rs *RunState) []byte {
	h := &rs.Header
	w := writer{b: make([]byte, 0, 256)}
	w.byte(codecVersion)
	base := h.RunAfter.UnixMicro()
	dates := []time.Time{h.QueuedAt, h.StartDate, h.EndDate}
	mask := byte(0)
	if h.LogicalDate != nil {
		mask = 1
	}
	for i, d := range dates {
		if !d.IsZero() {
			mask |= 2 << i
		}
	}
	w.byte(mask)
	w.text(string(h.DagID))
	w.text(string(h.RunID))
	w.text(string(h.RunType))
	w.text(string(h.State))
	w.int(base)
	if h.LogicalDate != nil {
		w.int(h.LogicalDate.UnixMicro() - base)
	}
	for _, d := range dates {
		if !d.IsZero() {
			w.int(d.UnixMicro() - base)
		}
	}
	w.text(h.DagHash)
	w.int(int64(h.DagVersion))
	w.int(h.BackfillID)
	w.int(int64(h.BackfillOrdinal))
	w.int(int64(h.ClearNumber))
	w.text(string(h.Reason))
	w.uint(uint64(len(h.Deadlines)))
	for _, d := range h.Deadlines {
		w.int(int64(d.Index))
		w.int(d.At.UnixMicro() - base)
	}
	w.uint(uint64(len(rs.Gone)))
	for _, id := range rs.Gone {
		w.text(string(id))
	}
	tasks := make([]int32, 0, len(rs.lengths))
	for t := range rs.lengths {
		tasks = append(tasks, t)
	}
	sort.Slice(tasks, func(i, j int) bool { return tasks[i] < tasks[j] })
	w.uint(uint64(len(tasks)))
	for _, t := range tasks {
		w.uint(uint64(t))
		w.uint(uint64(rs.lengths[t]))
	}
	w.uint(uint64(rs.n))
	return w.b
}

// EncodeChunk writes one chunk with the sparse facts of its instances.
func EncodeChunk(rs *RunState, chunk int) []byte {
	c := rs.Chunks[chunk]
	w := writer{b: make([]byte, 0, 8+16*len(c.TIs))}
	w.byte(codecVersion)
	w.uint(uint64(len(c.TIs)))
	base := Micros(0)
	for i := range c.TIs {
		if s := c.TIs[i].Scheduled; s != 0 && (base == 0 || s < base) {
			base = s
		}
	}
	w.int(int64(base))
	first := int32(chunk * ChunkSize)
	prev := TI{Task: -1, MapIndex: -1}
	for i := range c.TIs {
		t := &c.TIs[i]
		flags := t.Flags &^ (flagDirty | flagPassing | flagFresh)
		if rs.run.dirty.has(first + int32(i)) {
			flags |= flagDirty
		}
		if rs.run.passing.has(first + int32(i)) {
			flags |= flagPassing
		}
		w.ti(t, &prev, base, flags)
		prev = *t
	}
	w.skips(rs, first, int32(len(c.TIs)))
	var at []int32
	for i := range c.TIs {
		if _, ok := rs.rescheduleStart[first+int32(i)]; ok {
			at = append(at, int32(i))
		}
	}
	w.uint(uint64(len(at)))
	for _, i := range at {
		w.uint(uint64(i))
		w.int(int64(rs.rescheduleStart[first+i] - base))
	}
	return w.b
}

type writer struct{ b []byte }

func (w *writer) byte(b byte)   { w.b = append(w.b, b) }
func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)   { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) text(s string) { w.uint(uint64(len(s))); w.b = append(w.b, s...) }

// follows is what comes after an instance when nothing unusual happens.
func follows(prev *TI) (task, mapIndex int32) {
	if prev.MapIndex >= 0 {
		return prev.Task, prev.MapIndex + 1
	}
	return prev.Task + 1, airflow.Unmapped
}

func (w *writer) ti(t, prev *TI, base Micros, flags Flags) {
	times := [...]Micros{t.Scheduled, t.Queued, t.Start, t.End, t.WakeAt}
	mask := byte(0)
	for i, x := range times {
		if x != 0 {
			mask |= 1 << i
		}
	}
	task, index := follows(prev)
	b := byte(t.State)
	if t.Task != task || t.MapIndex != index {
		b |= tiJump
	}
	if t.TryNumber != 0 || t.MaxTries != 0 || t.DispatchSeq != 0 {
		b |= tiTries
	}
	if mask != 0 {
		b |= tiTimes
	}
	if flags != 0 || t.Requeues != 0 {
		b |= tiRest
	}
	w.byte(b)
	if b&tiJump != 0 {
		w.uint(uint64(t.Task))
		w.int(int64(t.MapIndex))
	}
	if b&tiTries != 0 {
		w.uint(uint64(t.TryNumber))
		w.int(int64(t.MaxTries))
		w.uint(uint64(t.DispatchSeq))
	}
	if mask != 0 {
		w.byte(mask)
		from := base
		for _, x := range times {
			if x != 0 {
				w.int(int64(x - from))
				from = x
			}
		}
	}
	if b&tiRest != 0 {
		w.byte(byte(flags))
		w.byte(t.Requeues)
	}
}

func (w *writer) skips(rs *RunState, first, n int32) {
	var at []int32
	for i := int32(0); i < n; i++ {
		if _, ok := rs.skips[first+i]; ok {
			at = append(at, i)
		}
	}
	w.uint(uint64(len(at)))
	for _, i := range at {
		s := rs.skips[first+i]
		w.uint(uint64(i))
		followed := byte(0)
		if s.Followed {
			followed = 1
		}
		w.byte(followed)
		w.uint(uint64(len(s.Tasks)))
		for _, id := range s.Tasks {
			w.text(string(id))
		}
	}
}

// errCorrupt is wrapped by every error of Decode.
var errCorrupt = errors.New("stored run state is not readable")

// reader reads varints, remembering the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errCorrupt, fmt.Sprintf(format, args...))
		r.b = nil
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends too early")
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *reader) uint(limit uint64, what string) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("it ends in %s", what)
		return 0
	}
	r.b = r.b[n:]
	if v > limit {
		r.fail("%s is %d, at most %d is possible", what, v, limit)
		return 0
	}
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("it ends in a number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// intIn reads a number between two bounds.
func (r *reader) intIn(lo, hi int64, what string) int64 {
	v := r.int()
	if v < lo || v > hi {
		r.fail("%s is %d, expected %d to %d", what, v, lo, hi)
		return 0
	}
	return v
}

func (r *reader) text() string {
	n := r.uint(maxTextLen, "the length of a text")
	if uint64(len(r.b)) < n {
		r.fail("it ends in a text")
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads a number of items of at least one byte each.
func (r *reader) count(what string) int { return int(r.uint(uint64(len(r.b)), what)) }

func (r *reader) version() {
	if v := r.byte(); r.err == nil && v != codecVersion {
		r.fail("its format is version %d, this program reads %d", v, codecVersion)
	}
}

// EncodedDagHash returns the content hash of the DAG version that an encoded
// header names: the one to give to Decode.
func EncodedDagHash(header []byte) (string, error) {
	var rs RunState
	r := reader{b: header}
	rs.decodeHeader(&r)
	return rs.Header.DagHash, r.err
}

// Decode reads what Encode and EncodeChunk wrote, for the DAG version named in
// the header. It never panics; errors say what is wrong with the input.
func Decode(g *Graph, header []byte, chunks [][]byte) (*RunState, error) {
	rs := &RunState{}
	r := reader{b: header}
	n := rs.decodeHeader(&r)
	if r.err == nil && (n+ChunkSize-1)/ChunkSize != len(chunks) {
		r.fail("%d instances need %d chunks, there are %d", n, (n+ChunkSize-1)/ChunkSize, len(chunks))
	}
	if r.err != nil {
		return nil, r.err
	}
	tasks := len(g.Tasks) + len(rs.Gone)
	for t := range rs.lengths {
		if int(t) >= len(g.Tasks) {
			return nil, fmt.Errorf("%w: a length is recorded for task %d of %d", errCorrupt, t, len(g.Tasks))
		}
	}
	seen := make(map[[2]int32]bool, min(n, 1<<16))
	for i, b := range chunks {
		want := min(ChunkSize, n-i*ChunkSize)
		c, err := rs.decodeChunk(b, i, want, tasks)
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		for k := range c.TIs {
			key := [2]int32{c.TIs[k].Task, c.TIs[k].MapIndex}
			if seen[key] {
				return nil, fmt.Errorf("%w: instance %d of task %d appears twice", errCorrupt, key[1], key[0])
			}
			seen[key] = true
		}
		rs.Chunks = append(rs.Chunks, c)
	}
	// Expansion leaves no gap, except index 0 where the unexpanded instance was
	// finished by its rule in the same pass. Without this check a single large
	// index could make every later step slow.
	highest := make([]int32, tasks)
	present := make([]int32, tasks)
	for _, c := range rs.Chunks {
		for i := range c.TIs {
			if t := &c.TIs[i]; t.MapIndex >= 0 {
				present[t.Task]++
				highest[t.Task] = max(highest[t.Task], t.MapIndex+1)
			}
		}
	}
	for t := range present {
		if highest[t] > present[t]+1 {
			return nil, fmt.Errorf("%w: task %d has %d mapped instances, the highest map index is %d", errCorrupt, t, present[t], highest[t]-1)
		}
	}
	rs.reset(g)
	return rs, nil
}

func (rs *RunState) decodeHeader(r *reader) (instances int) {
	h := &rs.Header
	r.version()
	mask := r.byte()
	h.DagID = airflow.DagID(r.text())
	h.RunID = airflow.RunID(r.text())
	h.RunType = airflow.DagRunType(r.text())
	state, err := airflow.ParseDagRunState(r.text())
	if err != nil {
		r.fail("%v", err)
	}
	h.State = state
	base := r.int()
	at := func() time.Time { return time.UnixMicro(base + r.int()).UTC() }
	h.RunAfter = time.UnixMicro(base).UTC()
	if mask&1 != 0 {
		ld := at()
		h.LogicalDate = &ld
	}
	for i, d := range []*time.Time{&h.QueuedAt, &h.StartDate, &h.EndDate} {
		if mask&(2<<i) != 0 {
			*d = at()
		}
	}
	h.DagHash = r.text()
	h.DagVersion = int(r.int())
	h.BackfillID = r.int()
	h.BackfillOrdinal = int(r.int())
	h.ClearNumber = int(r.int())
	h.Reason = Code(r.text())
	for range r.count("the number of deadlines") {
		i := int(r.int())
		h.Deadlines = append(h.Deadlines, Deadline{Index: i, At: at()})
	}
	for range r.count("the number of gone tasks") {
		rs.Gone = append(rs.Gone, airflow.TaskID(r.text()))
	}
	for range r.count("the number of lengths") {
		t := int32(r.uint(1<<30, "a task"))
		v := int32(r.uint(MaxMapIndex+1, "a length"))
		if rs.lengths == nil {
			rs.lengths = map[int32]int32{}
		}
		rs.lengths[t] = v
	}
	n := int(r.uint(1<<30, "the number of instances"))
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes follow its end", len(r.b))
	}
	return n
}

func (rs *RunState) decodeChunk(b []byte, chunk, want, tasks int) (*Chunk, error) {
	r := &reader{b: b}
	r.version()
	if n := r.count("the number of instances"); r.err == nil && n != want {
		r.fail("it has %d instances instead of %d", n, want)
	}
	if r.err != nil {
		return nil, r.err
	}
	base := Micros(r.int())
	c := &Chunk{TIs: make([]TI, 0, want)}
	prev := TI{Task: -1, MapIndex: -1}
	for range want {
		t := r.ti(&prev, base, tasks)
		if r.err != nil {
			return nil, r.err
		}
		c.TIs = append(c.TIs, t)
		prev = t
	}
	first := int32(chunk * ChunkSize)
	for range r.count("the number of choices") {
		i := int32(r.uint(uint64(want-1), "an instance"))
		s := Skipped{Followed: r.byte() != 0}
		for range r.count("the number of tasks of a choice") {
			s.Tasks = append(s.Tasks, airflow.TaskID(r.text()))
		}
		if rs.skips == nil {
			rs.skips = map[int32]Skipped{}
		}
		rs.skips[first+i] = s
	}
	for range r.count("the number of reschedules") {
		i := int32(r.uint(uint64(want-1), "an instance"))
		if rs.rescheduleStart == nil {
			rs.rescheduleStart = map[int32]Micros{}
		}
		rs.rescheduleStart[first+i] = base + Micros(r.int())
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes follow its end", len(r.b))
	}
	return c, r.err
}

func (r *reader) ti(prev *TI, base Micros, tasks int) TI {
	b := r.byte()
	t := TI{State: airflow.TIState(b & 15)}
	if int(t.State) >= airflow.NumTIStates {
		r.fail("state %d is unknown", t.State)
	}
	t.Task, t.MapIndex = follows(prev)
	if b&tiJump != 0 {
		t.Task = int32(r.uint(1<<30, "a task"))
		t.MapIndex = int32(r.intIn(airflow.Unmapped, MaxMapIndex, "a map index"))
	}
	if t.Task < 0 || int(t.Task) >= tasks {
		r.fail("task %d of %d", t.Task, tasks)
	}
	if t.MapIndex > MaxMapIndex {
		r.fail("map index %d is too large", t.MapIndex)
	}
	if b&tiTries != 0 {
		t.TryNumber = uint16(r.uint(1<<16-1, "a try number"))
		t.MaxTries = int16(r.intIn(-1<<15, 1<<15-1, "max_tries"))
		t.DispatchSeq = uint32(r.uint(1<<32-1, "a dispatch"))
	}
	if b&tiTimes != 0 {
		mask := r.byte()
		from := base
		for i, x := range []*Micros{&t.Scheduled, &t.Queued, &t.Start, &t.End, &t.WakeAt} {
			if mask&(1<<i) != 0 {
				from += Micros(r.int())
				*x = from
			}
		}
	}
	if b&tiRest != 0 {
		t.Flags = Flags(r.byte()) &^ flagFresh
		t.Requeues = r.byte()
	}
	return t
}
