package restapi_test

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/restapi"
)

// site is a server over a folder of DAG files, as `gust standalone` is one.
type site struct {
	t        testing.TB
	app      *localapp.App
	url      string
	client   *http.Client
	password string
	token    string
	without  map[string]bool
}

// startSite starts a server and signs in.
func startSite(t testing.TB, dags fs.FS) *site {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "dags")
	if err := os.CopyFS(folder, dags); err != nil {
		t.Fatal(err)
	}
	py := dagspec.NewInterpreter(folder)
	cfg, err := config.Load(config.Input{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, client: &http.Client{}, password: "a-password-of-the-tests-4711"}
	o := localapp.Options{
		Home: t.TempDir(), DagsFolder: folder, KilledTaskCleanupTime: time.Second, HeartbeatInterval: 500 * time.Millisecond, Masker: mask.New(mask.Options{}),
		Settings: func() (out []restapi.Setting) {
			for _, o := range cfg.Options() {
				out = append(out, restapi.Setting{Section: o.Section, Key: o.Key, Value: o.Value, Sensitive: o.Sensitive})
			}
			return out
		},
		Loader: yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{
			Addr: "127.0.0.1:0", AdminPassword: s.password, Opened: func(a *localapp.App) { s.app = a },
			Ready: func(addr string, _ dagprocessor.Summary) { ready <- addr },
		})
	}()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			s.client.CloseIdleConnections()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("server: %v", err)
			}
			if err := py.Close(); err != nil {
				t.Errorf("interpreter: %v", err)
			}
		})
	}
	select {
	case addr := <-ready:
		s.url = "http://" + addr
	case err := <-done:
		cancel()
		t.Fatalf("server not up: %v", err)
	case <-time.After(120 * time.Second):
		cancel()
		t.Fatal("server not up after 120 s")
	}
	t.Cleanup(stop)
	m, _ := s.do1("POST", "/auth/token", `{"username": "admin", "password": "`+s.password+`"}`)["access_token"].(string)
	if s.token = m; m == "" {
		t.Fatal("no token")
	}
	return s
}

func (s *site) do1(method, path, body string) map[string]any {
	s.t.Helper()
	_, _, v := s.do(method, path, body, false, nil)
	m, _ := v.(map[string]any)
	return m
}
