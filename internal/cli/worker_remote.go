package cli

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/remote"
	"github.com/gustflow/gust/internal/workerhost"
)

// pullWorker runs tasks that a server on another machine keeps (EdgeExecutor).
func (c *command) pullWorker(ctx context.Context, serverURL string, o WorkerOptions) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.Gust.WorkerToken == "" {
		return errors.New("no token to present to the server: set GUST_WORKER_TOKEN ([gust] worker_token) to the server's")
	}
	client, err := remote.NewClient(serverURL, cfg.Gust.WorkerToken)
	if err != nil {
		return err
	}
	home, err := localapp.OpenHome(c.home)
	if err != nil {
		return err
	}
	installation := home.Installation() + "-worker"
	if orphans, err := proc.EndOrphans(installation, 2*time.Second); err != nil {
		o.Log.Warn("task processes of a worker that died here could not all be ended", "err", err)
	} else if len(orphans) > 0 {
		c.hint("ended %d task processes of a worker that died here", len(orphans))
	}
	identity := workerhost.NewIdentity("")
	host, err := workerhost.New(workerhost.Options{
		Backend: func(p workerhost.Parts) (worker.Backend, error) {
			client.Use(p.Bundles)
			return client, nil
		},
		OpenBundles: func(dir string) (workerhost.Bundles, error) { return bundle.New(client.Blobs(), dir, bundle.Options{}) },
		Operators:   localapp.Operators(), OpenLog: client.OpenLog, Config: cfg, Identity: identity, Installation: installation,
		CacheDir: filepath.Join(string(home), "cache"), Log: o.Log,
	})
	if err != nil {
		return err
	}
	defer host.Close()
	c.hint("pulling tasks of queues %q from %s as %s", o.Queues, serverURL, identity.Hostname)
	return client.Serve(ctx, o.Stop, remote.ServeOptions{
		Queues: o.Queues, Concurrency: o.Concurrency, StopAfter: o.StopAfter, Log: o.Log,
		Run: func(ctx context.Context, d worker.Dispatch) error { return host.Run(ctx, d, workerhost.Limit{}) },
	})
}
