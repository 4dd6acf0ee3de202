package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A stream is one of server-sent events (HTML Standard, section 9.2).
type stream struct {
	client *http.Client
	url    string
	lastID string
}

// follow calls handle for each event until that returns false.
func (s *stream) follow(ctx context.Context, handle func(data string) bool) error {
	for {
		if more, err := s.open(ctx, handle); err != nil || !more {
			return err
		}
	}
}

// open reads one stream to its end.
func (s *stream) open(ctx context.Context, handle func(data string) bool) (more bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", s.lastID)
	resp, err := s.client.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("event stream: status %d", resp.StatusCode)
	}
	return s.read(bufio.NewScanner(resp.Body), handle)
}

func (s *stream) read(lines *bufio.Scanner, handle func(data string) bool) (more bool, err error) {
	var data string
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "id":
			s.lastID = value
		case "data":
			data = value
		case "":
			if !handle(data) {
				return false, nil
			}
		}
	}
	return true, lines.Err()
}
