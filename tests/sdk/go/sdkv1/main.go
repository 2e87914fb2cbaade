// AWS SDK for Go 1. Its default chain finds the credentials; the region the program has to ask for itself.
package main

import (
	"io"
	"os"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/ec2metadata"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/s3"

	"probes/lines"
)

func main() {
	lines.Answer("github.com/aws/aws-sdk-go", makeClient)
}

func makeClient() (lines.FetchText, error) {
	target := lines.ReadTarget()
	settings := aws.NewConfig().WithEndpoint(target.Endpoint).WithS3ForcePathStyle(true)
	setUp, err := session.NewSession()
	if err != nil {
		return nil, err
	}
	if os.Getenv("AWS_REGION") == "" {
		region, err := ec2metadata.New(setUp).Region()
		if err != nil {
			return nil, err
		}
		settings.Region = aws.String(region)
	}
	client := s3.New(setUp, settings)
	wanted := &s3.GetObjectInput{Bucket: aws.String(target.Bucket), Key: aws.String(target.Key)}
	return func() (string, error) {
		answer, err := client.GetObject(wanted)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}, nil
}
