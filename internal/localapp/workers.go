package localapp

import (
	"context"
	"errors"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/worker/remote"
)

// remoteExecutor reports whether a name is that of the executor whose workers
// pull from this server.
func remoteExecutor(name string) bool { return name == remote.Name || name == "CeleryExecutor" }

// workerServer serves workers on other machines: the same backend as here, and
// what they cannot read from this machine's files.
func (a *App) workerServer() (*remote.Server, error) {
	return remote.NewServer(remote.ServerOptions{
		Token: a.Options.WorkerToken, Executor: a.edge, Blobs: a.blobs, Log: a.log,
		// Workers have the files from the blobs, so this backend needs no bundles.
		Backend:  engine.NewBackend(a.Engine, nil, a.Options.Secrets, a.logURL),
		Document: a.Store.GetDocument,
		Latest: func(ctx context.Context, dag airflow.DagID) (string, error) {
			m, err := a.Store.GetDag(ctx, dag)
			return m.LatestHash, err
		},
		AppendLog: func(k airflow.TaskInstanceKey, try int, lines []byte) error {
			w, err := a.Logs.Create(k, try)
			if err != nil {
				return err
			}
			_, err = w.Write(lines)
			return errors.Join(err, w.Close())
		},
	})
}
