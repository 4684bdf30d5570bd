package localapp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// Notice tells a running server what a tool changed in the store.
type Notice struct {
	// Runs were changed; Dags were changed, paused or un-paused.
	Runs []store.RunKey  `json:"runs,omitempty"`
	Dags []airflow.DagID `json:"dags,omitempty"`
	// Pools says that pools changed, Discover that runs were created.
	Pools    bool `json:"pools,omitempty"`
	Discover bool `json:"discover,omitempty"`
	// Reparse asks for the DAG folder to be read again, whole if Paths is empty.
	Reparse bool     `json:"reparse,omitempty"`
	Paths   []string `json:"paths,omitempty"`
}

// Reply is what a server answers to a notice.
type Reply struct {
	Error string `json:"error,omitempty"`
	// DagsFolder is the folder whose DAG files the server reads; "" if it leaves them
	// to another process.
	DagsFolder string `json:"dags_folder,omitempty"`
}

// listenControl opens the control socket. A socket left behind by a server that
// died is replaced; the home's lock guarantees that there is no other.
func listenControl(h Home) (net.Listener, error) {
	if err := os.Remove(h.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", h.Socket())
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w (a path longer than about 100 characters cannot be a socket: choose a shorter --home)", h.Socket(), err)
	}
	if err := os.Chmod(h.Socket(), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// serveControl answers notices until the listener is closed.
func (a *App) serveControl(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			var n Notice
			if err := json.NewDecoder(bufio.NewReader(c)).Decode(&n); err != nil {
				a.log.Warn("unreadable notice on the control socket", "err", err)
				return
			}
			var resp Reply
			if a.Processor != nil {
				resp.DagsFolder = a.Options.DagsFolder
			}
			if err := a.take(ctx, n); err != nil {
				resp.Error = err.Error()
			}
			if err := json.NewEncoder(c).Encode(resp); err != nil {
				a.log.Debug("notice not answered", "err", err)
			}
		}()
	}
}

// take acts on a notice.
func (a *App) take(ctx context.Context, n Notice) error {
	var errs []error
	for _, k := range n.Runs {
		errs = append(errs, a.Engine.Refresh(ctx, k))
		if a.Worker != nil {
			a.Worker.CheckLeases(ctx, func(d worker.Dispatch) bool { return d.Key.DagID == k.DagID && d.Key.RunID == k.RunID })
		}
	}
	if len(n.Dags) > 0 {
		a.Engine.DagChanged(n.Dags...)
		if a.Processor != nil {
			errs = append(errs, a.Processor.Deleted(ctx, n.Dags...))
		}
	}
	if n.Pools || n.Discover {
		a.Engine.Wake()
	}
	if n.Reparse && a.Processor != nil {
		a.Processor.Reparse(n.Paths...)
	}
	return errors.Join(errs...)
}

// Notify tells the server of the home, if one runs, what was changed. It
// reports whether there was one; a home without a server is not an error.
func (h Home) Notify(ctx context.Context, n Notice) (bool, error) {
	r, err := h.Ask(ctx, n)
	return r != nil || err != nil, err
}

// Ask is Notify with the server's answer; nil if no server runs.
func (h Home) Ask(ctx context.Context, n Notice) (*Reply, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", h.Socket())
	if err != nil {
		return nil, nil // no server: it will find the change when it starts
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if err := json.NewEncoder(c).Encode(n); err != nil {
		return nil, fmt.Errorf("server of home %s: %w", h, err)
	}
	var resp Reply
	if err := json.NewDecoder(c).Decode(&resp); err != nil {
		return nil, fmt.Errorf("server of home %s did not answer: %w", h, err)
	}
	if resp.Error != "" {
		return nil, fmt.Errorf("server of home %s: %s", h, resp.Error)
	}
	return &resp, nil
}

// ServerRunning reports whether a server answers on the home's control socket.
func (h Home) ServerRunning(ctx context.Context) bool {
	ok, err := h.Notify(ctx, Notice{})
	return ok && err == nil
}
