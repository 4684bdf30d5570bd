package dagprocessor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// maxDebounce bounds, in units of Debounce, how long changes that never cease
	// put off a scan.
	maxDebounce = 8
	// retryMin and retryMax bound the pause after a scan that failed.
	retryMin = time.Second
	retryMax = time.Minute
)

// Run scans the folder, then watches it and scans it again whenever it may have
// changed, until ctx ends; it returns nil then. What fails is logged and tried
// again. At most one Run of a processor at a time.
func (p *Processor) Run(ctx context.Context) error {
	if p.cfg.Folder == "" {
		return errors.New("dagprocessor: only a folder of this machine can be watched")
	}
	w := newWatcher(p)
	defer w.close()
	p.scanMu.Lock()
	p.watch = w
	p.scanMu.Unlock()
	defer func() {
		p.scanMu.Lock()
		p.watch = nil
		p.scanMu.Unlock()
	}()
	retry := time.Duration(0)
	lastErr := ""
	for {
		_, err := p.Sync(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err == nil:
			retry, lastErr = 0, ""
		default:
			retry = min(max(2*retry, retryMin), retryMax)
			if err.Error() != lastErr {
				p.cfg.Log.Error("the DAG folder could not be processed completely; trying again", "err", err)
			}
			lastErr = err.Error()
		}
		if !p.pause(ctx, w, retry) {
			return nil
		}
	}
}

// pause waits for a reason to scan; false means that ctx has ended.
func (p *Processor) pause(ctx context.Context, w *watcher, retry time.Duration) bool {
	p.scanMu.Lock()
	next := p.next
	p.scanMu.Unlock()
	wait := p.cfg.RefreshInterval
	if w.incomplete() {
		// Without events a scan takes a small share of the time at most.
		wait = min(wait, max(p.cfg.PollInterval, 20*next.walked))
	}
	if retry > 0 {
		wait = min(wait, retry)
	}
	if next.rescan {
		wait = min(wait, p.cfg.Debounce)
	}
	if !next.at.IsZero() {
		wait = min(wait, max(next.at.Sub(p.cfg.Now()), 0))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-p.kick:
		return true
	case <-w.changed:
	}
	// Changes come in bursts (an editor's write and rename, a checkout): wait for
	// the end of this one. A big folder is not walked without a pause.
	latest := time.NewTimer(max(maxDebounce*p.cfg.Debounce, 2*next.walked))
	defer latest.Stop()
	quiet := time.NewTimer(max(p.cfg.Debounce, 2*next.walked))
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.changed:
			quiet.Reset(max(p.cfg.Debounce, 2*next.walked))
		case <-quiet.C:
			return true
		case <-latest.C:
			return true
		case <-p.kick:
			return true
		}
	}
}

// nextScan says when to look again although nothing is heard.
type nextScan struct {
	rescan bool
	at     time.Time
	walked time.Duration // what walking the folder took
}

// watcher tells when the folder may have changed.
type watcher struct {
	p       *Processor
	fs      *fsnotify.Watcher // nil where the system has no more of them
	changed chan struct{}
	done    chan struct{}

	mu       sync.Mutex
	watched  map[string]bool
	failed   map[string]bool // folders that could not be watched
	relevant map[string]bool // keys of files beside DAG files that matter
	rootReal string
}

func newWatcher(p *Processor) *watcher {
	w := &watcher{p: p, changed: make(chan struct{}, 1), done: make(chan struct{}), watched: map[string]bool{}, failed: map[string]bool{}}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		p.cfg.Log.Warn("the DAG folder cannot be watched: it is scanned at intervals instead", "interval", p.cfg.PollInterval, "err", err)
		close(w.done)
		return w
	}
	w.fs = fs
	go w.listen()
	return w
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
	<-w.done
}

// incomplete reports whether changes may go unnoticed.
func (w *watcher) incomplete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fs == nil || len(w.failed) > 0
}

// begin is called before a scan. A root that leads elsewhere than before (a
// deployment that switches a link) is watched anew.
func (w *watcher) begin(root string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	real, err := filepath.EvalSymlinks(root)
	if err != nil || w.fs == nil {
		return
	}
	if w.rootReal != "" && w.rootReal != real {
		for dir := range w.watched {
			w.remove(dir)
		}
	}
	w.rootReal = real
	clear(w.failed)
	if real != root {
		w.addLocked(filepath.Dir(root))
	}
}

// add watches a folder; it is called before the folder is read, so that nothing
// is missed between the two.
func (w *watcher) add(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addLocked(dir)
}

func (w *watcher) addLocked(dir string) {
	if w.fs == nil {
		return
	}
	// A folder that was removed and made again has the same name and needs a new
	// watch: adding one that exists is harmless and cheap.
	if err := w.fs.Add(dir); err != nil {
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) {
			if len(w.failed) == 0 {
				w.p.cfg.Log.Warn("a folder cannot be watched: the DAG folder is scanned at intervals instead; on Linux raise fs.inotify.max_user_watches or exclude folders by "+IgnoreFile,
					"folder", dir, "interval", w.p.cfg.PollInterval, "err", err)
			}
			w.failed[dir] = true
		}
		return
	}
	w.watched[dir] = true
}

func (w *watcher) remove(dir string) {
	delete(w.watched, dir)
	if err := w.fs.Remove(dir); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) && !errors.Is(err, fsnotify.ErrClosed) {
		w.p.cfg.Log.Debug("a folder cannot be unwatched", "folder", dir, "err", err)
	}
}

// end is called after a scan with the folders that matter and the keys of the
// files that do beside DAG files; nil keys are as before.
func (w *watcher) end(dirs map[string]bool, relevant map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs == nil {
		return
	}
	if relevant != nil {
		w.relevant = relevant
	}
	keep := map[string]bool{filepath.Dir(w.p.cfg.Folder): true}
	for key := range w.relevant {
		dir := filepath.Dir(w.p.cfg.Source.Name(key))
		keep[dir] = true
		if !dirs[dir] && !w.watched[dir] {
			w.addLocked(dir)
		}
	}
	removed := false
	for dir := range w.watched {
		if !dirs[dir] && !keep[dir] {
			w.remove(dir)
			removed = true
		}
	}
	if !removed {
		return
	}
	// A folder that was moved along with its parent has one watch under two names,
	// and removing the old name removed it: watch again what is left, and look
	// what has happened meanwhile.
	for dir := range w.watched {
		w.addLocked(dir)
	}
	w.signal()
}

// informed reports whether end was told which files matter.
func (w *watcher) informed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.relevant != nil
}

// listen turns events into wishes for a scan.
func (w *watcher) listen() {
	defer close(w.done)
	for {
		select {
		case ev, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if w.matters(ev) {
				w.signal()
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			// Most likely events were lost: a scan finds what they would have said.
			w.p.cfg.Log.Debug("watching the DAG folder", "err", err)
			w.signal()
		}
	}
}

func (w *watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// matters reports whether an event may change what a scan finds, and remembers
// which file is to be read whatever its stat says.
func (w *watcher) matters(ev fsnotify.Event) bool {
	base := filepath.Base(ev.Name)
	key := w.p.contents.key(ev.Name)
	w.mu.Lock()
	file := w.relevant[key] || w.p.cfg.Scan.isDagFile(base)
	folder := w.watched[ev.Name]
	w.mu.Unlock()
	if file {
		if ev.Has(fsnotify.Write) || ev.Has(fsnotify.Create) {
			w.p.askMu.Lock()
			w.p.force[key] = true
			w.p.askMu.Unlock()
		}
		return true
	}
	if strings.HasSuffix(base, ".py") && !ev.Has(fsnotify.Remove) {
		return w.mayMend()
	}
	if folder || ev.Name == w.p.cfg.Folder || base == IgnoreFile || strings.HasPrefix(base, "..") {
		return true
	}
	if !ev.Has(fsnotify.Create) {
		return false
	}
	fi, err := os.Lstat(ev.Name)
	if err != nil || !fi.IsDir() && fi.Mode()&os.ModeSymlink == 0 {
		return false
	}
	w.mayMend() // it may hold Python files already
	return true
}

// mayMend asks for files with an import error to be parsed again, because what
// they were looking for may be there now; false if there are none.
func (w *watcher) mayMend() bool {
	if !w.p.broken.Load() {
		return false
	}
	w.p.askMu.Lock()
	defer w.p.askMu.Unlock()
	w.p.mend = true
	return true
}
