package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/connection"
	"github.com/gustflow/gust/internal/mask"
)

func (c *command) connections() *cobra.Command {
	return group("connections", "Manage connections", c.connectionsList(), c.connectionsGet(), c.connectionsAdd(), c.connectionsDelete(),
		c.connectionsImport(), c.connectionsExport(), c.connectionsTest())
}

// connectionRow is a connection as Airflow's CLI shows it; its secrets are ***
// unless show.
func (c *command) connectionRow(conn airflow.Connection, show bool) row {
	extra := connection.ExtraObject(conn)
	uri := connection.URI(conn)
	password := conn.Password
	if !show {
		masked := conn
		if password != "" {
			password, masked.Password = mask.Replacement, mask.Replacement
		}
		if conn.Extra != "" {
			extra = c.masker.JSON(extra)
			masked.Extra = string(extra)
		}
		uri = connection.URI(masked)
		if conn.Login != "" || conn.Password != "" {
			uri = connection.MaskURI(uri)
		}
		uri = strings.ReplaceAll(uri, "%2A%2A%2A", mask.Replacement)
	}
	var port any
	if conn.Port != 0 {
		port = conn.Port
	}
	return row{
		{"conn_id", conn.ConnID}, {"conn_type", conn.ConnType}, {"description", conn.Description}, {"host", conn.Host}, {"schema", conn.Schema},
		{"login", conn.Login}, {"password", password}, {"port", port}, {"is_encrypted", true}, {"is_extra_encrypted", true},
		{"extra_dejson", extra}, {"get_uri", uri},
	}
}

const showValuesHelp = "show passwords and other secrets, which are *** otherwise"

func (c *command) connectionsList() *cobra.Command {
	var id string
	var show bool
	cmd := leaf("list", "List connections", "  gust connections list\n  gust connections list --conn-id warehouse -o json", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		cs, err := a.Store.ListConnections(ctx)
		if err != nil {
			return err
		}
		var rs []row
		for _, conn := range cs {
			if id == "" || conn.ConnID == id {
				rs = append(rs, c.connectionRow(conn, show))
			}
		}
		return c.rows(rs, "conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra_dejson")
	})
	cmd.Flags().StringVar(&id, "conn-id", "", "only the connection of this id")
	cmd.Flags().BoolVar(&show, "show-values", false, showValuesHelp)
	return cmd
}

func (c *command) connectionsGet() *cobra.Command {
	var show bool
	cmd := leaf("get CONN_ID", "Show a connection", "  gust connections get warehouse\n  gust connections get warehouse -o json --show-values", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		conn, ok, err := a.Options.Secrets.Connection(ctx, args[0])
		if err == nil && !ok {
			conn, err = a.Store.GetConnection(ctx, args[0])
		}
		if err != nil {
			return missing(err, "connection %s does not exist", args[0])
		}
		return c.rows([]row{c.connectionRow(conn, show)}, "conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra_dejson", "get_uri")
	})
	cmd.Flags().BoolVar(&show, "show-values", false, showValuesHelp)
	return cmd
}

// connFlags are the parts of a connection on the command line.
type connFlags struct {
	json, uri, connType, description, host, login, password, schema, port, extra string
}

func (c *command) connectionsAdd() *cobra.Command {
	var f connFlags
	cmd := &cobra.Command{Use: "add CONN_ID", Short: "Add a connection", Args: cobra.ExactArgs(1),
		Long: "Add a connection, given as a URI, as JSON or in parts. A password on the command line is visible to others on this machine while the command runs: connections import reads it from a file instead.",
		Example: `  gust connections add warehouse --conn-uri 'postgres://user:secret@db.example.com:5432/sales'
  gust connections add api --conn-type http --conn-host api.example.com --conn-password secret
  gust connections add lake --conn-json '{"conn_type": "aws", "extra": {"region_name": "eu-central-1"}}'`}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		conn, err := f.connection(args[0], cmd.Flags().Changed)
		if err != nil {
			return err
		}
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		if _, err := a.Store.GetConnection(ctx, conn.ConnID); err == nil {
			return fmt.Errorf("a connection with conn_id %s already exists: delete it first, or use connections import --overwrite", conn.ConnID)
		} else if !errors.Is(err, airflow.ErrNotFound) {
			return err
		}
		if err := a.Store.PutConnection(ctx, conn); err != nil {
			return err
		}
		c.audit(ctx, a, "cli_connections_add", map[string]string{"conn_id": conn.ConnID})
		uri, _ := c.connectionRow(conn, false).get("get_uri")
		c.say("Successfully added `conn_id`=%s : %s", conn.ConnID, uri)
		c.shadowed(connection.ConnPrefix, conn.ConnID)
		return nil
	}
	fl := cmd.Flags()
	fl.StringVar(&f.json, "conn-json", "", "the connection as JSON")
	fl.StringVar(&f.uri, "conn-uri", "", "the connection as a URI")
	fl.StringVar(&f.connType, "conn-type", "", "type, such as postgres or http")
	fl.StringVar(&f.description, "conn-description", "", "description")
	fl.StringVar(&f.host, "conn-host", "", "host")
	fl.StringVar(&f.login, "conn-login", "", "login")
	fl.StringVar(&f.password, "conn-password", "", "password")
	fl.StringVar(&f.schema, "conn-schema", "", "schema, such as a database")
	fl.StringVar(&f.port, "conn-port", "", "port")
	fl.StringVar(&f.extra, "conn-extra", "", "extra, a JSON object")
	return cmd
}

// connection reads the flags by Airflow's rules of what goes together.
func (f connFlags) connection(id string, given func(string) bool) (airflow.Connection, error) {
	var conn airflow.Connection
	if err := connection.CheckID(id); err != nil {
		return conn, usageError{err}
	}
	parts := []string{"conn-type", "conn-host", "conn-login", "conn-password", "conn-schema", "conn-port"}
	refuse := func(with string, flags ...string) error {
		var bad []string
		for _, p := range flags {
			if given(p) {
				bad = append(bad, "--"+p)
			}
		}
		if len(bad) > 0 {
			return usagef("%s cannot be given together with --%s, which says all of that", strings.Join(bad, ", "), with)
		}
		return nil
	}
	var err error
	switch {
	case given("conn-json") && given("conn-uri"):
		return conn, usagef("--conn-json and --conn-uri cannot be given together")
	case given("conn-json"):
		if err = refuse("conn-json", slices.Concat(parts, []string{"conn-extra", "conn-description"})...); err == nil {
			conn, err = connection.ParseJSON(id, f.json)
		}
	case given("conn-uri"):
		if err = refuse("conn-uri", parts...); err == nil {
			conn, err = connection.ParseURI(id, f.uri)
		}
		if err == nil && given("conn-extra") {
			conn.Extra = f.extra
		}
		conn.Description = f.description
	case given("conn-type"):
		conn = airflow.Connection{ConnID: id, ConnType: connection.NormalizeType(f.connType), Description: f.description, Host: f.host,
			Login: f.login, Password: f.password, Schema: f.schema, Extra: f.extra}
		if f.port != "" {
			if conn.Port, err = strconv.Atoi(f.port); err != nil || conn.Port < 1 || conn.Port > 65535 {
				return conn, usagef("--conn-port %q: expected a number from 1 to 65535", f.port)
			}
		}
	default:
		return conn, usagef("one of --conn-uri, --conn-json and --conn-type is needed")
	}
	if err == nil {
		err = connection.CheckExtra(id, conn.Extra)
	}
	if err != nil {
		var usage usageError
		if errors.As(err, &usage) {
			return conn, err
		}
		return conn, usageError{err}
	}
	return conn, nil
}

func (c *command) connectionsDelete() *cobra.Command {
	return leaf("delete CONN_ID", "Delete a connection", "  gust connections delete warehouse", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := a.Store.DeleteConnection(ctx, args[0]); err != nil {
			return missing(err, "connection %s does not exist", args[0])
		}
		c.audit(ctx, a, "cli_connections_delete", map[string]string{"conn_id": args[0]})
		c.say("Successfully deleted connection with `conn_id`=%s", args[0])
		return nil
	})
}

func (c *command) connectionsImport() *cobra.Command {
	var overwrite bool
	cmd := leaf("import FILE", "Import connections from a JSON, YAML or env file",
		"  gust connections import connections.json\n  gust connections import connections.env --overwrite", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			format, err := connection.FormatOf(args[0])
			if err != nil {
				return usageError{err}
			}
			b, err := c.importFile(args[0])
			if err != nil {
				return err
			}
			conns, err := connection.Import(b, format)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			for _, conn := range conns {
				if err := connection.CheckID(conn.ConnID); err != nil {
					return fmt.Errorf("%s: nothing was imported: %w", args[0], err)
				}
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			for _, conn := range conns {
				_, err := a.Store.GetConnection(ctx, conn.ConnID)
				if err == nil && !overwrite {
					c.say("Could not import connection %s: connection already exists.", conn.ConnID)
					continue
				}
				if err != nil && !errors.Is(err, airflow.ErrNotFound) {
					return err
				}
				if err := a.Store.PutConnection(ctx, conn); err != nil {
					return err
				}
				c.say("Imported connection %s", conn.ConnID)
			}
			c.audit(ctx, a, "cli_connections_import", map[string]string{"file": filepath.Base(args[0])})
			return nil
		})
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace connections that exist")
	return cmd
}

func (c *command) connectionsExport() *cobra.Command {
	var format, fileFormat, serialization string
	cmd := leaf("export FILE", "Export all connections, passwords included",
		"  gust connections export connections.json\n  gust connections export connections.env --serialization-format json\n  gust connections export - --file-format yaml", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if format != "" && fileFormat != "" && format != fileFormat {
				return usagef("--format and --file-format say different things: --file-format is enough")
			}
			if format == "" {
				format = fileFormat
			}
			f := connection.Format(format)
			var err error
			switch {
			case format != "":
				err = oneOf("--file-format", format, "json", "yaml", "env")
			case args[0] == "-":
				f = connection.FormatJSON
			default:
				if f, err = connection.FormatOf(args[0]); err != nil {
					err = usagef("%w, or --file-format", err)
				}
			}
			if err != nil {
				return err
			}
			if serialization != "" {
				if err := oneOf("--serialization-format", serialization, "uri", "json"); err != nil {
					return err
				}
				if f != connection.FormatEnv {
					return usagef("--serialization-format is for env files: expected --file-format env")
				}
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			conns, err := a.Store.ListConnections(ctx)
			if err != nil {
				return err
			}
			b, err := connection.Export(conns, f, serialization == "json")
			if err != nil {
				return err
			}
			if err := c.exportFile(args[0], b); err != nil {
				return err
			}
			if args[0] != "-" {
				c.say("Connections successfully exported to %s.", args[0])
			}
			return nil
		})
	cmd.Flags().StringVar(&format, "format", "", "the older name of --file-format")
	cmd.Flags().StringVar(&fileFormat, "file-format", "", "json, yaml or env (default by the name of the file)")
	cmd.Flags().StringVar(&serialization, "serialization-format", "", "of env files: uri (default) or json")
	return cmd
}

// defaultPorts are those of connection types that can be tested without a port.
var defaultPorts = map[string]int{"postgres": 5432, "mysql": 3306, "http": 80, "https": 443, "smtp": 25, "ftp": 21, "sftp": 22, "ssh": 22, "redis": 6379}

func (c *command) connectionsTest() *cobra.Command {
	cmd := leaf("test CONN_ID", "Test whether the host of a connection answers", "  gust connections test warehouse", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		conn, ok, err := a.Options.Secrets.Connection(ctx, args[0])
		if err == nil && !ok {
			conn, err = a.Store.GetConnection(ctx, args[0])
		}
		if err != nil {
			return missing(err, "connection %s does not exist", args[0])
		}
		addr, err := addressOf(conn)
		if err != nil {
			return err
		}
		d := net.Dialer{Timeout: 10 * time.Second}
		s, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("connection failed: %w", err)
		}
		defer s.Close()
		if c.output == "json" || c.output == "yaml" {
			return c.details(row{{"conn_id", conn.ConnID}, {"status", true}, {"message", addr + " answers; the login was not tried"}})
		}
		c.say("Connection success: %s answers (the login was not tried)", addr)
		return nil
	})
	cmd.Long = "Test whether the host of a connection accepts connections on its port. Logins are not tried: only a task that uses the connection shows whether they are right."
	return cmd
}

// addressOf returns host:port of a connection.
func addressOf(conn airflow.Connection) (string, error) {
	host := conn.Host
	kind := conn.ConnType
	if scheme, rest, ok := strings.Cut(host, "://"); ok {
		host, kind = rest, scheme
	}
	host, _, _ = strings.Cut(host, "/")
	port := conn.Port
	if h, p, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.Atoi(p); err == nil {
			host, port = h, n
		}
	}
	if host == "" {
		return "", fmt.Errorf("connection %s of type %s has no host: it cannot be tested", conn.ConnID, conn.ConnType)
	}
	if kind == "http" {
		var extra struct {
			Schema string `json:"schema"`
		}
		if conn.Schema == "https" || json.Unmarshal([]byte(conn.Extra), &extra) == nil && extra.Schema == "https" {
			kind = "https"
		}
	}
	if port == 0 {
		port = defaultPorts[kind]
	}
	if port == 0 {
		return "", fmt.Errorf("connection %s has no port, and none is known for type %s: it cannot be tested", conn.ConnID, kind)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}
