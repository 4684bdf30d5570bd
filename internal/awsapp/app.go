package awsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/sdkmeter"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/s3blob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/queue/sqsqueue"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

// Options tune an App. The zero value is right for functions.
type Options struct {
	// AWS replaces the configuration of the environment; for tests.
	AWS *aws.Config
	// Load finds region and credentials outside of functions (awsgeneral.Load). nil:
	// both are in the environment.
	Load Load
	// WrapDriver puts something around the store's driver (a meter); may be nil.
	WrapDriver func(kv.Driver) kv.Driver
	// Meter counts the calls of all clients; nil: nobody counts.
	Meter *awsmeter.Meter
	Log   *slog.Logger // nil: discarded
}

// App opens the parts of an installation. It is safe for concurrent use. Every
// part is made once, when it is first asked for.
type App struct {
	Config Config
	Log    *slog.Logger
	// Invoke starts a worker function asynchronously; nil = every dispatch goes
	// through its queue (see package awsburst).
	Invoke func(ctx context.Context, function string, payload []byte) error
	// Listener is told what the scheduler's steps change; nil = nobody.
	Listener engine.Listener
	// OpenKeys opens the keys of variables and connections, OpenBackend the secrets
	// backend; nil: this process reads neither (see package awskeys).
	OpenKeys    func(ctx context.Context) (store.Sealer, error)
	OpenBackend func() (engine.Secrets, error)

	aws    aws.Config
	driver func() (kv.Driver, error)
	store  func() (*store.Store, error)
	queues func() queue.Queues
	s3     func() *s3.Client
	keys   *lazyKeys
}

// Open prepares an installation. It makes no network call, unless credentials
// have to be looked for (never in Lambda).
func Open(ctx context.Context, c Config, o Options) (*App, error) {
	a := &App{Config: c, Log: o.Log}
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	if o.AWS != nil {
		a.aws = *o.AWS
	} else {
		var err error
		if a.aws, err = awsConfig(ctx, o.Load); err != nil {
			return nil, err
		}
	}
	if o.Meter != nil {
		sdkmeter.Install(&a.aws, o.Meter)
	}
	a.keys = &lazyKeys{open: a.openKeys}
	a.driver = sync.OnceValues(func() (kv.Driver, error) {
		if c.Table == "" {
			return nil, missing(awsenv.Table)
		}
		d, err := dynamokv.New(dynamokv.Options{Client: dynamodb.NewFromConfig(a.aws), Table: c.Table})
		if err != nil {
			return nil, err
		}
		if o.WrapDriver != nil {
			return o.WrapDriver(d), nil
		}
		return d, nil
	})
	a.store = sync.OnceValues(func() (*store.Store, error) {
		d, err := a.driver()
		if err != nil {
			return nil, err
		}
		if c.DataBucket == "" {
			return store.New(d, a.keys), nil // reads no XCom above 64 KB
		}
		large, err := a.Objects(awsenv.XComPrefix)
		if err != nil {
			return nil, err
		}
		return store.New(d, a.keys, store.WithLargeValues(large)), nil
	})
	a.queues = sync.OnceValue(func() queue.Queues { return sqsqueue.New(sqs.NewFromConfig(a.aws), sqsqueue.Options{}) })
	a.s3 = sync.OnceValue(func() *s3.Client {
		return s3.NewFromConfig(a.aws, func(so *s3.Options) {
			so.UsePathStyle = a.aws.BaseEndpoint != nil // emulators have no host names for buckets
		})
	})
	return a, nil
}

func missing(name string) error { return fmt.Errorf("%s is not set: %s", name, purpose(name)) }

// AWS is the configuration of clients.
func (a *App) AWS() aws.Config { return a.aws }

// Store opens the store.
func (a *App) Store() (*store.Store, error) { return a.store() }

// Queues are the SQS queues of the account.
func (a *App) Queues() queue.Queues { return a.queues() }

// Blobs are the content-addressed bytes in the data bucket.
func (a *App) Blobs() (blob.Store, error) {
	if a.Config.DataBucket == "" {
		return nil, missing(awsenv.DataBucket)
	}
	return s3blob.New(a.s3(), a.Config.DataBucket, awsenv.BlobPrefix, s3blob.Options{}), nil
}

// Objects are the keyed bytes below a prefix of the data bucket.
func (a *App) Objects(prefix string) (blob.Objects, error) {
	if a.Config.DataBucket == "" {
		return nil, missing(awsenv.DataBucket)
	}
	return s3blob.NewObjects(a.s3(), a.Config.DataBucket, prefix, s3blob.Options{}), nil
}

// S3 is the client of buckets.
func (a *App) S3() *s3.Client { return a.s3() }

// Bundles are the snapshots of DAG files, materialised below dir.
func (a *App) Bundles(dir string) (*bundle.Store, error) {
	b, err := a.Blobs()
	if err != nil {
		return nil, err
	}
	return bundle.New(b, dir, bundle.Options{})
}

// Close closes what was opened.
func (a *App) Close() error {
	d, err := a.driver()
	if err != nil {
		return nil // never opened: there is nothing to close
	}
	return d.Close()
}

// Load is the search for region and credentials in files, roles and metadata
// services. It is a parameter because functions have both in their environment, and
// the search would be a tenth of their code.
type Load func(ctx context.Context, client *awshttp.BuildableClient) (aws.Config, error)

// awsConfig reads the region and credentials from the environment, or by load.
func awsConfig(ctx context.Context, load Load) (aws.Config, error) {
	httpClient := newHTTPClient()
	region := os.Getenv("AWS_REGION")
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if load == nil || os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" && region != "" && id != "" && secret != "" {
		if region == "" || id == "" || secret == "" {
			return aws.Config{}, errors.New("AWS configuration: AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not all set: Lambda sets them for functions")
		}
		c := aws.Config{
			Region: region, HTTPClient: httpClient, RetryMode: aws.RetryModeStandard, ConfigSources: []any{serviceEndpoints{}},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, os.Getenv("AWS_SESSION_TOKEN")),
		}
		if u := os.Getenv("AWS_ENDPOINT_URL"); u != "" {
			c.BaseEndpoint = &u
		}
		return c, nil
	}
	c, err := load(ctx, httpClient)
	if err != nil {
		return c, fmt.Errorf("AWS configuration: %w", err)
	}
	if c.Region == "" {
		return c, errors.New("AWS configuration: no region: set AWS_REGION, or region in the profile that is used")
	}
	return c, nil
}

// serviceEndpoints are those of single services (AWS_ENDPOINT_URL_SQS, …), which the
// SDK's clients ask for by this method.
type serviceEndpoints struct{}

// GetServiceBaseEndpoint returns the endpoint of a service, by its SDK id.
func (serviceEndpoints) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	u := os.Getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(sdkID, " ", "_")))
	return u, u != "", nil
}

// newHTTPClient makes the client that all services share. Idle connections are
// kept: their handshake is the longest part of a first call.
func newHTTPClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 3 * time.Second; d.KeepAlive = 30 * time.Second }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 128, 64
			t.IdleConnTimeout = 5 * time.Minute
			t.TLSHandshakeTimeout = 5 * time.Second
		})
}
