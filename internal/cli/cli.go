// Package cli is Gust's command line: Airflow's verbs and flags, and Gust's own.
//
// Every command reads a home folder (--home, GUST_HOME), works beside a running
// server and without one, prints a table, JSON, YAML or plain text (-o), and ends
// with 0, 1 (failed) or 2 (usage). Commands get their streams, environment and
// clock from Env, so that tests run them as a shell would.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/dagsync"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/store"
)

// Exit codes of every command.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Env is what a command gets from its process.
type Env struct {
	Args   []string // without the program's name
	Name   string   // the program's name: "gust" or "airflow"
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	// Environ are all environment variables, as os.Environ returns them; nil
	// leaves configuration, AIRFLOW_CONN_… and AIRFLOW_VAR_… at what files say.
	Environ func() []string
	Now     func() time.Time
	// Terminal says that Stdout is a terminal; Width is its width in characters.
	Terminal bool
	Width    int
	User     string
	// SecretsBackend opens a [secrets] backend by its class path and arguments; nil
	// in a program that has none.
	SecretsBackend func(class, kwargs string) (secretsbackend.Secrets, error)
	// RunWorker serves queues of a deployment on AWS; nil in a program without AWS.
	RunWorker func(ctx context.Context, o WorkerOptions) error
	// Bucket opens a bucket for dags sync; nil in a program without AWS.
	Bucket func(ctx context.Context, name string) (dagsync.Target, error)
}

// OSEnv returns the environment of this process.
func OSEnv() Env {
	e := Env{
		Args: os.Args[1:], Name: filepath.Base(os.Args[0]), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ, Now: time.Now, Terminal: term.IsTerminal(int(os.Stdout.Fd())), Width: 100, User: os.Getenv("USER"),
	}
	if u, err := user.Current(); err == nil && e.User == "" {
		e.User = u.Username
	}
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
		e.Width = w
	}
	return e
}

// usageError is a mistake in the command line itself.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitError ends with a code and no further message: the command has said it all.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, env Env) int {
	c := &command{env: env}
	root := c.root()
	root.SetArgs(airflowArgs(env))
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetContext(ctx)
	defer c.close()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var code exitError
	if errors.As(err, &code) {
		return int(code)
	}
	c.printError(err)
	var usage usageError
	if errors.As(err, &usage) || isCobraUsage(err) {
		return ExitUsage
	}
	return ExitFailed
}

// isCobraUsage recognises the mistakes that cobra reports as plain errors.
func isCobraUsage(err error) bool {
	for _, s := range []string{"unknown command", "unknown flag", "unknown shorthand flag", "accepts ", "requires at least", "required flag", "flag needs an argument", "invalid argument"} {
		if strings.HasPrefix(err.Error(), s) {
			return true
		}
	}
	return false
}

// airflowArgs maps Airflow's spellings that have no verb of their own here:
// `airflow celery worker` and `airflow api-server`.
func airflowArgs(env Env) []string {
	a := env.Args
	if len(a) >= 2 && a[0] == "celery" && a[1] == "worker" {
		return append([]string{"worker"}, a[2:]...)
	}
	if len(a) >= 1 && a[0] == "rotate-fernet-key" {
		return append([]string{"secrets", "rotate"}, a[1:]...)
	}
	if len(a) >= 1 && a[0] == "webserver" {
		return append([]string{"api-server"}, a[1:]...)
	}
	return a
}

// command is the state shared by the commands of one command line.
type command struct {
	env     Env
	home    string
	output  string
	verbose bool
	closers []func()
	loaded  *config.Config
	places  secretsbackend.Chain // see secretPlaces
	masker  *mask.Masker
	// store is that of the open home, for DAG files that name variables.
	store atomic.Pointer[store.Store]
}

func (c *command) close() {
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
}

// printError writes an error once: as text, or as JSON with -o json.
func (c *command) printError(err error) {
	var usage usageError
	if errors.As(err, &usage) {
		err = usage.error
	}
	var invalid *airflow.InvalidError
	if c.output == "json" {
		body := map[string]any{"error": err.Error()}
		if errors.As(err, &invalid) {
			body["problems"] = invalid.Problems
		}
		_ = writeJSON(c.env.Stderr, body)
		return
	}
	fmt.Fprintf(c.env.Stderr, "%s: %v\n", c.paintErr("error"), err)
}

func (c *command) paintErr(s string) string {
	if c.color() {
		return "\x1b[31m" + s + "\x1b[0m"
	}
	return s
}

// color reports whether output may be coloured.
func (c *command) color() bool {
	return c.env.Terminal && c.env.Getenv("NO_COLOR") == "" && c.env.Getenv("TERM") != "dumb"
}

// root builds the command tree.
func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:           c.env.Name,
		Short:         "Schedule and run Airflow DAGs",
		Long:          "Gust runs Airflow DAG files: on this machine as one process, or on AWS with nothing running between runs.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Example: `  gust standalone --dags-folder dags          run everything on this machine
  gust dags trigger my_dag -c '{"day": 1}'     start a run
  gust dags list-runs my_dag -o json           what ran, for scripts
  gust explain my_dag                          why nothing moves`,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	home := c.env.Getenv("GUST_HOME")
	if home == "" && c.env.Name == "airflow" {
		home = c.env.Getenv("AIRFLOW_HOME")
	}
	if home == "" {
		if h, err := os.UserHomeDir(); err == nil {
			home = filepath.Join(h, ".gust")
		} else {
			home = ".gust"
		}
	}
	root.PersistentFlags().StringVar(&c.home, "home", home, "folder that holds all state (GUST_HOME)")
	root.PersistentFlags().StringVarP(&c.output, "output", "o", "table", "table, json, yaml or plain")
	root.PersistentFlags().BoolVarP(&c.verbose, "verbose", "v", false, "more output")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		switch c.output {
		case "table", "json", "yaml", "plain":
			return nil
		}
		return usagef("output %q is unknown: expected table, json, yaml or plain", c.output)
	}
	for _, build := range builders {
		root.AddCommand(build(c)...)
	}
	c.addCompletions(root)
	return root
}

// builders make the top-level commands; each file adds its own in init order of
// this list.
var builders = []func(*command) []*cobra.Command{
	(*command).serverCommands,
	(*command).dagsCommands,
	(*command).tasksCommands,
	(*command).backfillCommands,
	(*command).settingsCommands,
	(*command).maintenanceCommands,
	(*command).explainCommands,
	(*command).costCommands,
	(*command).usersCommands,
}

// group returns a command that only has subcommands.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q for %q: see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
		}
		return nil
	}, RunE: func(cmd *cobra.Command, _ []string) error {
		_ = cmd.Help()
		return exitError(ExitUsage)
	}}
	g.AddCommand(subs...)
	return g
}
