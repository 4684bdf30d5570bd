package cli

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/version"
)

// options returns how the home is opened, from flags, environment and configuration.
func (c *command) options(dagsFolder string, log *slog.Logger) (localapp.Options, error) {
	if dagsFolder != "" {
		abs, err := filepath.Abs(dagsFolder)
		if err != nil {
			return localapp.Options{}, err
		}
		dagsFolder = abs
	}
	if dagsFolder == "" {
		dagsFolder = filepath.Join(c.home, "dags")
	}
	py := dagspec.NewInterpreter(dagsFolder, filepath.Join(dagsFolder, "plugins"), filepath.Join(dagsFolder, "include"))
	c.closers = append(c.closers, func() { _ = py.Close() })
	return localapp.Options{
		Home: c.home, DagsFolder: dagsFolder, Log: log,
		Loader: yamlloader.New(yamlloader.Config{Version: version.String(), Options: dagspec.Options{Python: py}}),
	}, nil
}

// open opens the home for a command.
func (c *command) open(ctx context.Context) (*localapp.App, error) {
	o, err := c.options("", nil)
	if err != nil {
		return nil, err
	}
	a, err := localapp.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, a.Close)
	return a, nil
}

// notify tells the home's server, if one runs, what a command changed.
func (c *command) notify(ctx context.Context, a *localapp.App, n localapp.Notice) error {
	_, err := a.Home.Notify(ctx, n)
	return err
}

// say prints a line for people; with -o json or yaml only data is printed.
func (c *command) say(format string, args ...any) {
	if c.output == "table" || c.output == "plain" {
		fmt.Fprintf(c.env.Stdout, format+"\n", args...)
	}
}
