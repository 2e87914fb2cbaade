// AWS SDK for Go 2. Its default chain finds the credentials; the region it looks for only when it is told to.
package main

import (
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"probes/lines"
)

func main() {
	lines.Answer("github.com/aws/aws-sdk-go-v2", makeClient)
}

func makeClient() (lines.FetchText, error) {
	ctx, target := context.Background(), lines.ReadTarget()
	// Without this option a program without AWS_REGION has no region. With AWS_REGION it does nothing.
	settings, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSRegion())
	if err != nil {
		return nil, err
	}
	client := s3.NewFromConfig(settings, func(options *s3.Options) {
		options.BaseEndpoint = aws.String(target.Endpoint)
		options.UsePathStyle = true
	})
	wanted := &s3.GetObjectInput{Bucket: aws.String(target.Bucket), Key: aws.String(target.Key)}
	return func() (string, error) {
		answer, err := client.GetObject(ctx, wanted)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}, nil
}
