package fetch

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// signers are how requests to object stores are addressed and signed. Settings
// and credentials are found where the stores' own tools look for them:
// environment, ~/.aws, gcloud's default credentials, the machine's role. Without
// any, requests are anonymous, as public buckets want them.
type signers struct {
	s3Endpoint string // of another store that speaks S3
	s3         *credentials.Credentials
	gsEndpoint string                    // of an emulator
	gs         func() oauth2.TokenSource // gives nil where there are no credentials

	mu      sync.Mutex
	regions map[string]string // of buckets
}

// S3Endpoint is the address of another store that speaks S3, "" for Amazon's.
func S3Endpoint() string {
	return cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
}

// S3Region is the region that the environment names, "" if it names none.
func S3Region() string { return cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")) }

// S3Credentials are those of the environment, ~/.aws or the machine's role.
func S3Credentials() *credentials.Credentials {
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: 2 * time.Second}},
	})
}

// S3Advice is what to say of a request that S3 refuses.
const S3Advice = ": credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials (AWS_PROFILE) or the machine's role"

func (c *Client) signers() *signers {
	c.once.Do(func() {
		s := &c.auth
		s.regions = map[string]string{}
		s.s3Endpoint, s.s3 = S3Endpoint(), S3Credentials()
		if s.gsEndpoint = os.Getenv("STORAGE_EMULATOR_HOST"); s.gsEndpoint != "" && !strings.Contains(s.gsEndpoint, "://") {
			s.gsEndpoint = "http://" + s.gsEndpoint
		}
		s.gs = sync.OnceValue(func() oauth2.TokenSource {
			found, err := google.FindDefaultCredentials(context.Background(), "https://www.googleapis.com/auth/devstorage.read_only")
			if err != nil {
				return nil
			}
			return found.TokenSource
		})
	})
	return &c.auth
}

func (s *signers) region(bucket string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.regions[bucket], S3Region(), "us-east-1")
}

// bucketKey divides scheme://bucket/key.
func bucketKey(raw string) (bucket, key string, err error) {
	_, rest, _ := strings.Cut(raw, "://")
	bucket, key, _ = strings.Cut(rest, "/")
	if bucket == "" || key == "" {
		return "", "", fmt.Errorf("%s: want scheme://bucket/key", raw)
	}
	return bucket, key, nil
}

// address is where an object lies on the web.
func (c *Client) address(raw string) (string, error) {
	scheme, _, _ := strings.Cut(raw, "://")
	if scheme != "s3" && scheme != "gs" {
		return raw, nil
	}
	bucket, key, err := bucketKey(raw)
	if err != nil {
		return "", err
	}
	s := c.signers()
	path := (&url.URL{Path: key}).EscapedPath()
	switch {
	case scheme == "gs":
		return strings.TrimSuffix(cmp.Or(s.gsEndpoint, "https://storage.googleapis.com"), "/") + "/" + bucket + "/" + path, nil
	case s.s3Endpoint != "":
		return strings.TrimSuffix(s.s3Endpoint, "/") + "/" + bucket + "/" + path, nil
	case strings.Contains(bucket, "."): // no certificate fits such a host name
		return "https://s3." + s.region(bucket) + ".amazonaws.com/" + bucket + "/" + path, nil
	}
	return "https://" + bucket + ".s3." + s.region(bucket) + ".amazonaws.com/" + path, nil
}

func (c *Client) newRequest(ctx context.Context, raw string) (*http.Request, error) {
	address, err := c.address(raw)
	if err != nil {
		return nil, err
	}
	return http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
}

// sign proves who asks, where anybody knows.
func (c *Client) sign(req *http.Request, raw string) error {
	switch {
	case strings.HasPrefix(raw, "s3://"):
		s := c.signers()
		who, err := s.s3.GetWithContext(&credentials.CredContext{Client: c.http()})
		if err != nil || who.SignerType.IsAnonymous() || who.AccessKeyID == "" {
			return nil
		}
		bucket, _, err := bucketKey(raw)
		if err != nil {
			return err
		}
		req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		*req = *signer.SignV4(*req, who.AccessKeyID, who.SecretAccessKey, who.SessionToken, s.region(bucket))
	case strings.HasPrefix(raw, "gs://"):
		s := c.signers()
		if s.gsEndpoint != "" {
			return nil
		}
		source := s.gs()
		if source == nil {
			return nil
		}
		token, err := source.Token()
		if err != nil {
			return fmt.Errorf("credentials for Google Cloud: %w", err)
		}
		token.SetAuthHeader(req)
	}
	return nil
}

// learn takes a bucket's region from a refusal and tells whether it is news.
func (c *Client) learn(raw string, resp *http.Response) bool {
	region := resp.Header.Get("X-Amz-Bucket-Region")
	if !strings.HasPrefix(raw, "s3://") || region == "" {
		return false
	}
	bucket, _, err := bucketKey(raw)
	s := c.signers()
	if err != nil || s.region(bucket) == region {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.regions[bucket] = region
	return true
}

// advice says what to do about a refusal.
func (c *Client) advice(raw string, resp *http.Response) string {
	if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusUnauthorized {
		return ""
	}
	switch scheme, _, _ := strings.Cut(raw, "://"); scheme {
	case "s3":
		return S3Advice
	case "gs":
		return ": credentials are taken from GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or the machine's role"
	}
	return ""
}
