package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/callback"
	"github.com/gustflow/gust/internal/config"
	"github.com/gustflow/gust/internal/connection"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/secretsbackend"
	"github.com/gustflow/gust/internal/version"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

func (c *command) environ() []string {
	if c.env.Environ == nil {
		return nil
	}
	return c.env.Environ()
}

// getenv reads one environment variable.
func (c *command) getenv(name string) (value string) {
	for _, kv := range c.environ() {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// config reads the configuration of the home, once.
func (c *command) config() (*config.Config, error) {
	if c.loaded == nil {
		cfg, err := config.Load(config.Input{Home: c.home, Environ: c.environ()})
		if err != nil {
			return nil, fmt.Errorf("the configuration is not valid:\n%w", err)
		}
		c.loaded = cfg
		c.masker = mask.New(mask.Options{ShowSensitive: !cfg.Core.HideSensitiveVarConnFields, Names: cfg.Core.SensitiveVarConnNames, MinLength: cfg.Logging.MinLengthMaskedSecret})
	}
	return c.loaded, nil
}

// options returns how the home is opened, from flags, environment and configuration.
func (c *command) options(dagsFolder string, log *slog.Logger) (localapp.Options, error) {
	cfg, err := c.config()
	if err != nil {
		return localapp.Options{}, err
	}
	if dagsFolder == "" {
		dagsFolder = cfg.Core.DagsFolder
	}
	if dagsFolder, err = filepath.Abs(dagsFolder); err != nil {
		return localapp.Options{}, err
	}
	places, err := c.secretPlaces()
	if err != nil {
		return localapp.Options{}, err
	}
	subject, err := mailTemplate("subject_template", cfg.Email.SubjectTemplate)
	if err != nil {
		return localapp.Options{}, err
	}
	text, err := mailTemplate("html_content_template", cfg.Email.HTMLContentTemplate)
	if err != nil {
		return localapp.Options{}, err
	}
	signIn, err := auth.FromConfig(cfg)
	if err != nil {
		return localapp.Options{}, err
	}
	ignoreFirst, useSchedule, paused := cfg.Scheduler.IgnoreFirstDependsOnPastByDefault, cfg.Scheduler.UseJobSchedule, cfg.Core.DagsArePausedAtCreation
	return localapp.Options{
		Home: c.home, DagsFolder: dagsFolder, Log: log, Executor: cfg.Core.Executor, WorkerToken: cfg.Gust.WorkerToken,
		Engine: engine.Config{
			Parallelism: cfg.Core.Parallelism, MaxMapLength: cfg.Core.MaxMapLength, MaxRequeues: noneIfZero(cfg.Scheduler.NumStuckInQueuedRetries), MaxRetryDelay: atOnceIfZero(cfg.Core.MaxTaskRetryDelay),
			QueuedTimeout: cfg.Scheduler.TaskQueuedTimeout, HeartbeatTimeout: cfg.Scheduler.TaskInstanceHeartbeatTimeout,
			IgnoreFirstDependsOnPast: &ignoreFirst, DefaultPoolSlots: cfg.Core.DefaultPoolTaskSlotCount, UseJobSchedule: &useSchedule,
		},
		LogFolder: cfg.Logging.BaseLogFolder, LogLevel: taskrunner.Level(strings.ToLower(cfg.Logging.LoggingLevel)), PausedAtCreation: &paused,
		StaleThreshold: atOnceIfZero(cfg.DagProcessor.StaleDagThreshold), ParsingProcesses: cfg.DagProcessor.ParsingProcesses, LoadTimeout: cfg.Core.DagbagImportTimeout, Scan: scanOptions(cfg),
		MaxFailedHeartbeats: cfg.Workers.MaxFailedHeartbeats, AllowedClasses: cfg.Core.AllowedDeserializationClasses,
		RefreshInterval: cfg.DagProcessor.RefreshInterval, KilledTaskCleanupTime: cfg.Core.KilledTaskCleanupTime,
		HeartbeatInterval: cfg.Workers.MinHeartbeatInterval, MaxTemplatedLength: cfg.Core.MaxTemplatedFieldLength, MaxMapLength: cfg.Core.MaxMapLength,
		Masker: c.masker, Secrets: places, Python: cfg.Gust.Python, PythonZygotes: noneIfZero(cfg.Gust.PythonZygotes), MaxTaskLogBytes: int64(cfg.Gust.MaxTaskLogBytes),
		SMTP: callback.SMTPConfig{
			Host: cfg.SMTP.Host, Port: cfg.SMTP.Port, User: cfg.SMTP.User, Password: cfg.SMTP.Password, From: mailFrom(cfg),
			StartTLS: cfg.SMTP.StartTLS, SSL: cfg.SMTP.SSL, Timeout: cfg.SMTP.Timeout,
			Subject: subject, HTMLContent: text,
			ConnID: cfg.Email.EmailConnID, NoVerify: cfg.Email.SSLContext == "none", Tries: cfg.SMTP.RetryLimit,
		},
		Loader:    c.loader(cfg, dagsFolder),
		NoRecords: !cfg.Gust.RecordDecisions, IgnoreConfInParams: !cfg.Core.DagRunConfOverridesParams,
		Settings: shownSettings(cfg), MaximumPageLimit: cfg.API.MaximumPageLimit, PageSize: cfg.API.PageSize,
		Auth: signIn, BaseURL: cfg.API.BaseURL, DefaultImpersonation: cfg.Core.DefaultImpersonation,
		Retention: retention.PolicyOf(cfg), RetentionInterval: cfg.Gust.RetentionInterval,
	}, nil
}

// shownSettings is what the API shows of the configuration; nil for nothing.
func shownSettings(cfg *config.Config) func() []restapi.Setting {
	if cfg.API.ExposeConfig == "False" {
		return nil
	}
	return func() []restapi.Setting {
		var out []restapi.Setting
		for _, o := range cfg.Options() {
			out = append(out, restapi.Setting{Section: o.Section, Key: o.Key, Value: o.Value, Sensitive: o.Sensitive})
		}
		return out
	}
}

// noneIfZero turns 0 into -1 where zero means "the default".
func noneIfZero(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

func atOnceIfZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func scanOptions(cfg *config.Config) dagprocessor.ScanOptions {
	return dagprocessor.ScanOptions{IgnoreSyntax: dagprocessor.IgnoreSyntax(cfg.Core.DagIgnoreFileSyntax)}
}

// mailTemplate reads a file that a setting of [email] names.
func mailTemplate(key, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("[email] %s: %w; leave it empty for Airflow's text", key, err)
	}
	return string(b), nil
}

func mailFrom(cfg *config.Config) string {
	if cfg.Email.FromEmail != "" {
		return cfg.Email.FromEmail
	}
	return cfg.SMTP.MailFrom
}

// loader returns the reader of DAG files.
func (c *command) loader(cfg *config.Config, dagsFolder string) dagprocessor.Loader {
	py := dagspec.NewInterpreter(dagsFolder, filepath.Join(dagsFolder, "plugins"), filepath.Join(dagsFolder, "include"))
	c.closers = append(c.closers, func() { _ = py.Close() })
	return yamlloader.New(yamlloader.Config{Version: version.String(), Source: dagspec.Dir{Env: c.environmentSecrets().Lookup, Vars: c.storedVariable}, Options: dagspec.Options{Python: py, Config: yamlloader.Defaults(cfg)}})
}

// storedVariable reads an Airflow variable that a DAG file names, from the store
// of the home that is open; there is none for files that are only validated.
func (c *command) storedVariable(key string) (string, bool) {
	s := c.store.Load()
	if s == nil {
		return "", false
	}
	v, err := s.GetVariable(context.Background(), key)
	return v.Value, err == nil
}

// environmentSecrets looks variables and connections up in the environment.
func (c *command) environmentSecrets() connection.Env {
	env := map[string]string{}
	for _, kv := range c.environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	return connection.Env{Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
}

// secretPlaces are what is asked for variables and connections before the store,
// in Airflow's order: the secrets backend, then the environment.
func (c *command) secretPlaces() (secretsbackend.Chain, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	if c.places != nil {
		return c.places, nil
	}
	var places secretsbackend.Chain
	if class := cfg.Secrets.Backend; class != "" {
		if c.env.SecretsBackend == nil {
			return nil, fmt.Errorf("[secrets] backend is set, and this %s was built without AWS: use one that was built with it (go build -tags aws ./cmd/gust), or leave the setting empty", c.env.Name)
		}
		b, err := c.env.SecretsBackend(class, cfg.Secrets.BackendKwargs)
		if err != nil {
			return nil, err
		}
		places = append(places, b)
	}
	c.places = append(places, c.environmentSecrets())
	return c.places, nil
}

// open opens the home for a command.
func (c *command) open(ctx context.Context) (*localapp.App, error) { return c.openWith(ctx, "") }

// openWith opens the home with another DAG folder than the configured one.
func (c *command) openWith(ctx context.Context, dagsFolder string) (*localapp.App, error) {
	o, err := c.options(dagsFolder, nil)
	if err != nil {
		return nil, err
	}
	a, err := localapp.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, a.Close)
	c.store.Store(a.Store)
	return a, nil
}

// notify tells the home's server, if one runs, what a command changed.
func (c *command) notify(ctx context.Context, a *localapp.App, n localapp.Notice) error {
	_, err := a.Home.Notify(ctx, n)
	return err
}

// tell is notify for changes that something should follow from soon: without a
// server it says so.
func (c *command) tell(ctx context.Context, a *localapp.App, n localapp.Notice, what string) error {
	there, err := a.Home.Notify(ctx, n)
	if err == nil && !there {
		c.hint("no server runs on %s: %s when one is started (gust standalone)", a.Home, what)
	}
	return err
}

// say prints a line for people; with -o json or yaml only data is printed.
func (c *command) say(format string, args ...any) {
	if c.output == "table" || c.output == "plain" {
		fmt.Fprintf(c.env.Stdout, format+"\n", args...)
	}
}

// hint prints a line for people beside the data.
func (c *command) hint(format string, args ...any) {
	fmt.Fprintf(c.env.Stderr, format+"\n", args...)
}

// dag returns a DAG's model.
func (c *command) dag(ctx context.Context, a *localapp.App, id string) (airflow.DagModel, error) {
	m, err := a.Store.GetDag(ctx, airflow.DagID(id))
	if errors.Is(err, airflow.ErrNotFound) {
		return m, fmt.Errorf("DAG %q: %w (`%s dags list` shows what there is, `%s dags list-import-errors` what could not be loaded)", id, airflow.ErrNotFound, c.env.Name, c.env.Name)
	}
	return m, err
}

// readInput reads a file, or standard input for "-".
func (c *command) readInput(path string) ([]byte, error) {
	if path == "-" {
		return readAll(c.env.Stdin)
	}
	return os.ReadFile(path)
}

// writeOutput writes a file that may hold secrets, or standard output for "-".
func (c *command) writeOutput(path string, b []byte) error {
	if path == "-" {
		_, err := c.env.Stdout.Write(b)
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// confirm asks a question that has to be answered with y; yes answers it.
func (c *command) confirm(yes bool, format string, args ...any) (bool, error) {
	if yes {
		return true, nil
	}
	fmt.Fprintf(c.env.Stderr, format+" [y/n] ", args...)
	var answer string
	if _, err := fmt.Fscan(c.env.Stdin, &answer); err != nil {
		return false, usagef("not confirmed: answer y, or give --yes")
	}
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}
