package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/observe"
	"github.com/gustflow/gust/internal/version"
)

func (c *command) serverCommands() []*cobra.Command {
	return []*cobra.Command{c.standalone(), c.scheduler(), c.dagProcessor(), c.apiServer(),
		c.worker(),
		c.companion("triggerer", "Airflow's triggerer: here the scheduler keeps what is deferred", "deferred tasks wait in the store and are woken by `gust standalone` or `gust scheduler`: "),
		c.versionCommand(), c.info()}
}

type serveFlags struct {
	dagsFolder, host string
	port             int
}

// bind adds the flags of an HTTP address; what is not given comes from [api].
func (f *serveFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.host, "host", "H", "", "address to listen on (default [api] host, 127.0.0.1)")
	cmd.Flags().IntVarP(&f.port, "port", "p", -1, "port to listen on, 0 for any (default [api] port, 8080)")
}

func (c *command) addr(f serveFlags) (string, error) {
	cfg, err := c.config()
	if err != nil {
		return "", err
	}
	if f.host == "" {
		f.host = cfg.API.Host
	}
	if f.port == -1 {
		f.port = cfg.API.Port
	}
	if f.port < 0 || f.port > 65535 {
		return "", usagef("--port %d: expected 0 to 65535", f.port)
	}
	return net.JoinHostPort(f.host, strconv.Itoa(f.port)), nil
}

// airflowService adds the flags with which Airflow's services are put into the
// background, so that the message says what to do instead.
func airflowService(cmd *cobra.Command) {
	daemon := cmd.Flags().BoolP("daemon", "D", false, "")
	for _, name := range []string{"pid", "stdout", "stderr", "log-file"} {
		cmd.Flags().String(name, "", "")
		_ = cmd.Flags().MarkHidden(name)
	}
	_ = cmd.Flags().MarkHidden("daemon")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *daemon {
			return usagef("--daemon is not supported: run it under systemd or another supervisor, or with & in a shell")
		}
		return nil
	}
}

func (c *command) standalone() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "standalone",
		Short: "Run everything in one process: scheduler, executor, DAG processor, HTTP",
		Long:  "Runs everything in one process until SIGTERM or Ctrl-C, and says when it is ready.",
		Args:  cobra.NoArgs,
		Example: `  gust standalone --home ~/.gust --dags-folder dags
  gust standalone --port 0                    choose a free port`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := c.addr(f)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), f, localapp.ServeOptions{Addr: addr})
		},
	}
	cmd.Flags().StringVar(&f.dagsFolder, "dags-folder", "", "folder with DAG files (default [core] dags_folder, <home>/dags)")
	f.bind(cmd)
	airflowService(cmd)
	return cmd
}

func (c *command) scheduler() *cobra.Command {
	var f serveFlags
	var noProcessor, skipLogs bool
	var runs int
	cmd := &cobra.Command{
		Use: "scheduler", Short: "Run the scheduler, executor and DAG processor without HTTP", Args: cobra.NoArgs,
		Example: "  gust scheduler --dags-folder dags\n  gust scheduler --no-dag-processor           beside a `gust dag-processor`",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context(), f, localapp.ServeOptions{NoProcessor: noProcessor})
		},
	}
	cmd.Flags().StringVar(&f.dagsFolder, "dags-folder", "", "folder with DAG files (default [core] dags_folder, <home>/dags)")
	cmd.Flags().BoolVar(&noProcessor, "no-dag-processor", false, "leave the DAG folder to a separate `dag-processor`")
	cmd.Flags().BoolVarP(&skipLogs, "skip-serve-logs", "s", false, "")
	cmd.Flags().IntVarP(&runs, "num-runs", "n", -1, "")
	_ = cmd.Flags().MarkHidden("skip-serve-logs") // accepted for Airflow's sake: there is nothing to skip
	_ = cmd.Flags().MarkHidden("num-runs")
	airflowService(cmd)
	return cmd
}

// dagProcessor keeps the store in step with the DAG folder and does nothing
// else; it needs no lock, since everything it writes is conditional.
func (c *command) dagProcessor() *cobra.Command {
	var f serveFlags
	var once bool
	cmd := &cobra.Command{
		Use: "dag-processor", Short: "Run only the DAG processor, beside `scheduler --no-dag-processor`", Args: cobra.NoArgs,
		Example: "  gust dag-processor --dags-folder dags\n  gust dag-processor --once                   read the folder once and end",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			a, err := c.openWith(ctx, f.dagsFolder)
			if err != nil {
				return err
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			p, err := dagprocessor.New(dagprocessor.Config{
				Folder: a.Options.DagsFolder, Store: a.Store, Bundles: a.Bundles, Loader: a.Options.Loader, Scan: a.Options.Scan, PausedAtCreation: a.Options.PausedAtCreation,
				RefreshInterval: cfg.DagProcessor.RefreshInterval, StaleThreshold: a.Options.StaleThreshold, LoadTimeout: cfg.Core.DagbagImportTimeout,
				Parallelism: cfg.DagProcessor.ParsingProcesses, Log: c.logger(),
				OnChange: func(ids []airflow.DagID) {
					if err := c.notify(ctx, a, localapp.Notice{Dags: ids}); err != nil {
						c.hint("%s: the server was not told of changed DAGs: %v", c.paintErr("error"), err)
					}
				},
				OnScan: func(s dagprocessor.Summary) {
					if s.Parsed > 0 || c.verbose {
						c.say("%d of %d files parsed in %s: %d DAGs, %d files with import errors", s.Parsed, s.Files, s.Duration.Round(time.Millisecond), s.Dags, s.ImportErrors)
					}
				},
			})
			if err != nil {
				return err
			}
			if once {
				s, err := p.Sync(ctx)
				if err == nil {
					err = s.Err
				}
				return err
			}
			c.say("reading DAG files in %s; stop with Ctrl-C", a.Options.DagsFolder)
			if err := p.Run(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.dagsFolder, "dags-folder", "", "folder with DAG files (default [core] dags_folder, <home>/dags)")
	cmd.Flags().BoolVar(&once, "once", false, "read the folder once and end")
	airflowService(cmd)
	return cmd
}

// apiServer is part of standalone; beside a scheduler there is nothing left to run.
func (c *command) apiServer() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "api-server", Short: "Run the HTTP endpoints: the same as standalone", Args: cobra.NoArgs,
		Example: "  gust api-server --port 8080",
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := c.addr(f)
			if err != nil {
				return err
			}
			return c.serve(cmd.Context(), f, localapp.ServeOptions{Addr: addr})
		},
	}
	f.bind(cmd)
	airflowService(cmd)
	return cmd
}

// companion stands for a service of Airflow that is part of the server here:
// it stays in the foreground until SIGTERM, so that service files and compose
// files written for Airflow keep working.
func (c *command) companion(name, short, why string) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Long:    short + ".\nStays in the foreground until SIGTERM, so that service files written for Airflow keep working.",
		Example: "  gust " + name,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			h, err := localapp.OpenHome(c.home)
			if err != nil {
				return err
			}
			state := "one runs on " + string(h)
			if !h.ServerRunning(ctx) {
				state = "none runs on " + string(h) + " yet"
			}
			c.hint("%s%s; this process has nothing to do and waits to be stopped", why, state)
			<-ctx.Done()
			return nil
		},
	}
	for _, flag := range []struct{ name, short string }{{"queues", "q"}, {"concurrency", "c"}, {"celery-hostname", "H"}, {"capacity", ""}, {"autoscale", "a"}} {
		if name == "worker" && (flag.name == "queues" || flag.name == "concurrency") {
			continue // it has these
		}
		cmd.Flags().StringP(flag.name, flag.short, "", "")
		_ = cmd.Flags().MarkHidden(flag.name) // accepted for Airflow's sake
	}
	airflowService(cmd)
	return cmd
}

// logger logs to standard error what no command's output says.
func (c *command) logger() *slog.Logger {
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.env.Stderr, &slog.HandlerOptions{Level: level}))
}

// serve runs a server until SIGTERM or SIGINT.
func (c *command) serve(ctx context.Context, f serveFlags, so localapp.ServeOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o, err := c.options(f.dagsFolder, c.logger())
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err == nil {
		// Only servers export: a DAG that is tried out tells nobody.
		o.Observe, err = observe.FromConfig(cfg, c.getenv, version.String())
	}
	if err != nil {
		return err
	}
	if none := cfg.Ignored(); len(none) > 0 {
		var names []string
		for _, i := range none[:min(len(none), 5)] {
			names = append(names, "["+i.Section+"] "+i.Key)
		}
		c.hint("%s: %d settings have no effect (%s …): `%s config lint` lists them", c.paintErr("warning"), len(none), strings.Join(names, ", "), c.env.Name)
	}
	so.Ready = func(addr string, s dagprocessor.Summary) {
		c.say("gust %s is ready: %d DAGs from %d files in %s", version.String(), s.Dags, s.Files, o.DagsFolder)
		if s.ImportErrors > 0 {
			c.say("%d files have import errors: see `gust dags list-import-errors`", s.ImportErrors)
		}
		if addr != "" {
			c.say("listening on http://%s", addr)
		}
		c.say("home %s; look with `gust dags list-runs DAG` and `gust explain DAG`; stop with Ctrl-C", c.home)
	}
	so.AdminPassword = c.env.Getenv(auth.AdminPasswordEnv)
	so.SignIn = func(f localapp.FirstSignIn) {
		if c.env.Terminal {
			c.say("sign in as %s with password %s (also in %s, for you alone)", f.Username, f.Password, f.File)
			return
		}
		// What goes into a file or a journal is read by others.
		c.say("sign in as %s with the password in %s", f.Username, f.File)
	}
	so.Scanned = func(s dagprocessor.Summary) {
		if s.Parsed > 0 && c.verbose {
			c.say("DAG folder: %d of %d files parsed in %s, %d with import errors", s.Parsed, s.Files, s.Duration, s.ImportErrors)
		}
	}
	so.Progress = func(p dagprocessor.Progress) {
		if c.env.Terminal && p.Total > 50 {
			fmt.Fprintf(c.env.Stderr, "\rparsing DAG files: %d of %d", p.Parsed, p.Total)
			if p.Parsed == p.Total {
				fmt.Fprintln(c.env.Stderr)
			}
		}
	}
	so.Opened = func(a *localapp.App) { c.store.Store(a.Store) }
	return localapp.Serve(ctx, o, so)
}

type versionInfo struct {
	Version        string `json:"version"`
	AirflowVersion string `json:"airflow_version"`
}

func (c *command) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs, Example: "  gust version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{version.String(), version.AirflowVersion}
			if c.output == "table" || c.output == "plain" {
				c.say("%s", v.Version)
				return nil
			}
			return one(c, v, nil)
		},
	}
}

type infoView struct {
	Version        string `json:"version"`
	AirflowVersion string `json:"airflow_version"`
	Home           string `json:"home"`
	Store          string `json:"store"`
	ServerRunning  bool   `json:"server_running"`
	OS             string `json:"operating_system"`
	Arch           string `json:"architecture"`
	Go             string `json:"go_version"`
}

func (c *command) info() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Show where this installation is and whether it runs", Args: cobra.NoArgs, Example: "  gust info -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := localapp.OpenHome(c.home)
			if err != nil {
				return err
			}
			v := infoView{version.String(), version.AirflowVersion, string(h), h.Database(), h.ServerRunning(cmd.Context()), runtime.GOOS, runtime.GOARCH, runtime.Version()}
			return one(c, v, []col[infoView]{
				{"version", func(v infoView) string { return v.Version }},
				{"airflow_version", func(v infoView) string { return v.AirflowVersion }},
				{"home", func(v infoView) string { return v.Home }},
				{"store", func(v infoView) string { return v.Store }},
				{"server_running", func(v infoView) string { return boolText(v.ServerRunning) }},
				{"operating_system", func(v infoView) string { return v.OS }},
				{"architecture", func(v infoView) string { return v.Arch }},
				{"go_version", func(v infoView) string { return v.Go }},
			})
		},
	}
}
