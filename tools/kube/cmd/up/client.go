package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

type object map[string]any

// client asks one server; without a token, over plain HTTP.
type client struct {
	address, token string
	http           http.Client
}

func newClient(address, authorityFile, token string) (*client, error) {
	authority, err := os.ReadFile(authorityFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &client{address: address, token: token, http: http.Client{Transport: transport, Timeout: 5 * time.Second}}, nil
}

func (c *client) get(path string, into any) error { return c.do("GET", path, "", nil, into) }

func (c *client) send(method, path, contentType string, body object) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.do(method, path, contentType, bytes.NewReader(text), nil)
}

func (c *client) do(method, path, contentType string, body io.Reader, into any) error {
	request, err := http.NewRequest(method, c.address+path, body)
	if err != nil {
		return err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, response.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
