package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/version"
)

func (c *command) serverCommands() []*cobra.Command {
	return []*cobra.Command{c.standalone(), c.scheduler(), c.versionCommand(), c.info()}
}

type serveFlags struct {
	dagsFolder, host string
	port             int
}

func (c *command) standalone() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "standalone",
		Short: "Run everything in one process: scheduler, executor, DAG processor, HTTP",
		Args:  cobra.NoArgs,
		Example: `  gust standalone --home ~/.gust --dags-folder dags
  gust standalone --port 0                    choose a free port`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context(), f, localapp.ServeOptions{Addr: net.JoinHostPort(f.host, strconv.Itoa(f.port))})
		},
	}
	cmd.Flags().StringVar(&f.dagsFolder, "dags-folder", c.env.Getenv("AIRFLOW__CORE__DAGS_FOLDER"), "folder with DAG files (default <home>/dags)")
	cmd.Flags().StringVar(&f.host, "host", "127.0.0.1", "address to listen on")
	cmd.Flags().IntVarP(&f.port, "port", "p", 8080, "port to listen on, 0 for any")
	return cmd
}

func (c *command) scheduler() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use: "scheduler", Short: "Run the scheduler, executor and DAG processor without HTTP", Args: cobra.NoArgs,
		Example: "  gust scheduler --dags-folder dags",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context(), f, localapp.ServeOptions{})
		},
	}
	cmd.Flags().StringVar(&f.dagsFolder, "dags-folder", c.env.Getenv("AIRFLOW__CORE__DAGS_FOLDER"), "folder with DAG files (default <home>/dags)")
	return cmd
}

// serve runs a server until SIGTERM or SIGINT.
func (c *command) serve(ctx context.Context, f serveFlags, so localapp.ServeOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	level := slog.LevelWarn
	if c.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(c.env.Stderr, &slog.HandlerOptions{Level: level}))
	o, err := c.options(f.dagsFolder, log)
	if err != nil {
		return err
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
