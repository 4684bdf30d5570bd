package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// traceLines bounds the trace of a failing seed.
const traceLines = 4000

// trace keeps the last lines of a history.
type trace struct {
	ring [traceLines]string
	n    int
}

func (t *trace) add(s string) {
	t.ring[t.n%traceLines] = s
	t.n++
}

func (t *trace) lines() []string {
	if t == nil {
		return nil
	}
	var out []string
	if t.n > traceLines {
		out = append(out, fmt.Sprintf("… %d earlier lines", t.n-traceLines))
	}
	for i := max(0, t.n-traceLines); i < t.n; i++ {
		out = append(out, t.ring[i%traceLines])
	}
	return out
}

// tracef adds a line, if there is a trace.
func (w *World) tracef(format string, args ...any) {
	if w.trace == nil {
		return
	}
	pad := ""
	if w.inside > 0 {
		pad = "    | "
	}
	w.trace.add(fmt.Sprintf("%9s %s%s", w.now.Sub(w.start).Truncate(time.Millisecond), pad, fmt.Sprintf(format, args...)))
}

// logger puts what an engine logs into the trace; nil without one.
func (w *World) logger(p *proc) *slog.Logger {
	if w.trace == nil {
		return nil
	}
	return slog.New(slog.NewTextHandler(logWriter{w, p}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

type logWriter struct {
	w *World
	p *proc
}

// Write implements io.Writer: one line of log.
func (l logWriter) Write(b []byte) (int, error) {
	l.w.tracef("%s logs %s", l.p, strings.TrimSpace(string(b)))
	return len(b), nil
}

// dump digests every item of the store.
func (w *World) dump() string {
	h := sha256.New()
	for _, key := range slices.SortedFunc(maps.Keys(w.check.keys), compareKeys) {
		it, err := w.mem.Get(w.ctx, key, true)
		if err != nil {
			continue // deleted
		}
		fmt.Fprintf(h, "%s\x00%s\x00%d", it.PK, it.SK, it.ExpiresAt)
		for _, name := range slices.Sorted(maps.Keys(it.Attrs)) {
			fmt.Fprintf(h, "%s=%#v;", name, it.Attrs[name])
		}
		for _, ix := range slices.Sorted(maps.Keys(it.Index)) {
			fmt.Fprintf(h, "%v=%v|", ix, it.Index[ix])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// items shows every item, if there is a trace.
func (w *World) items() map[kv.Key]string {
	out := map[kv.Key]string{}
	if w.trace == nil {
		return out
	}
	for key := range w.check.keys {
		if it, err := w.mem.Get(w.ctx, key, true); err == nil {
			out[key] = fmt.Sprintf("%s %v", it.Bytes("d"), it.Index)
		}
	}
	return out
}

func compareKeys(a, b kv.Key) int {
	return cmp.Or(strings.Compare(a.PK, b.PK), strings.Compare(a.SK, b.SK))
}
