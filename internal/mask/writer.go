package mask

import (
	"io"
	"sync"
)

// maxHeld bounds what a Writer holds back.
const maxHeld = 1 << 20

// Writer masks a stream. A secret that is split over several writes is masked
// too: an end that could be the beginning of a secret is held back until more
// is written, or Flush or Close is called. It is safe for concurrent use.
type Writer struct {
	m   *Masker
	w   io.Writer
	mu  sync.Mutex
	buf []byte
	out []byte
}

// Writer returns a Writer in front of w.
func (m *Masker) Writer(w io.Writer) *Writer { return &Writer{m: m, w: w} }

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ix := w.m.index.Load()
	if ix == nil && len(w.buf) == 0 {
		return w.w.Write(p)
	}
	w.buf = append(w.buf, p...)
	if err := w.emit(ix, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what is held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.emit(w.m.index.Load(), true)
}

// Close flushes, and closes the underlying writer if it can be closed.
func (w *Writer) Close() error {
	err := w.Flush()
	if c, ok := w.w.(io.Closer); ok {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

func (w *Writer) emit(ix *index, all bool) error {
	if len(w.buf) == 0 {
		return nil
	}
	s := string(w.buf)
	var spans []span
	end := len(s)
	if ix != nil {
		spans = ix.find(s, len(s))
		if !all && len(s) <= maxHeld {
			end = ix.pending(s)
			// A secret that the held end overlaps is held with it.
			if n := len(spans); n > 0 && spans[n-1].to > end {
				end = spans[n-1].from
				spans = spans[:n-1]
			}
		}
	}
	w.out = replace(w.out[:0], s[:end], spans)
	w.buf = append(w.buf[:0], s[end:]...)
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.w.Write(w.out)
	return err
}
