// minio-go. It takes credentials from metadata only when it is given credentials.NewIAM.
package main

import (
	"context"
	"io"
	"net/url"
	"os"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"probes/lines"
)

func main() {
	lines.Answer("github.com/minio/minio-go/v7", makeClient)
}

func makeClient() (lines.FetchText, error) {
	target := lines.ReadTarget()
	where, err := url.Parse(target.Endpoint)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(where.Host, &minio.Options{
		// It reads no such variable itself; empty is 169.254.169.254, or what the container variables say.
		Creds:        credentials.NewIAM(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT")),
		Region:       os.Getenv("AWS_REGION"), // empty: it asks S3 for the bucket's
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		return nil, err
	}
	return func() (string, error) {
		object, err := client.GetObject(context.Background(), target.Bucket, target.Key, minio.GetObjectOptions{})
		if err != nil {
			return "", err
		}
		defer object.Close()
		text, err := io.ReadAll(object)
		return string(text), err
	}, nil
}
