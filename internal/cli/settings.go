package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
)

// settingsCommands are the verbs about the state people manage.
func (c *command) settingsCommands() []*cobra.Command {
	return []*cobra.Command{c.variables(), c.connections(), c.pools(), c.assets(), c.configCommand(), c.secrets()}
}

// leaf returns a command that does something.
func leaf(use, short, example string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		return run(cmd.Context(), args)
	}}
}

// audit records what a command changed. A change that was made stands even if
// it cannot be recorded.
func (c *command) audit(ctx context.Context, a *localapp.App, event string, extra map[string]string) {
	b, err := json.Marshal(extra)
	if err == nil {
		err = a.Store.PutAudit(ctx, store.AuditEvent{ID: uuid.NewString(), When: c.env.Now().UTC(), Event: event, Owner: c.env.User, Extra: b})
	}
	if err != nil {
		c.hint("the change was made but not recorded in the audit log: %v", err)
	}
}

// missing turns ErrNotFound into what a person needs; other errors stay.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return fmt.Errorf(format, args...)
	}
	return err
}

// importFile reads a file that a command was given, with errors people understand.
func (c *command) importFile(path string) ([]byte, error) {
	b, err := c.readInput(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("file %s does not exist", path)
	}
	return b, err
}

// exportObject writes an object as an export file, - for standard output, and says
// so unless it went there.
func (c *command) exportObject(path string, v any, said string, args ...any) error {
	b, err := indented(v)
	if err != nil {
		return err
	}
	if err := c.exportFile(path, b); err != nil {
		return err
	}
	if path != "-" {
		c.say(said, args...)
	}
	return nil
}

// exportFile writes a file for this user's eyes only, or standard output for "-".
func (c *command) exportFile(path string, b []byte) error {
	if path == "-" {
		return c.writeOutput(path, b)
	}
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return fmt.Errorf("%s is a folder: expected the name of a file", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// A file that was there before keeps its mode on writing: it will hold secrets.
	if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return c.writeOutput(path, b)
}

// indented renders v as Airflow's exports do: sorted keys, four blanks.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// oneOf checks the value of a flag that has a few.
func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return usagef("%s %q is unknown: expected %s", flag, value, strings.Join(allowed, ", "))
}
