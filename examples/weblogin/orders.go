package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"example.com/authtrip"
)

// orders is the client of the API. The rest of the application does not know that
// there are tokens.
type orders struct {
	url    string
	client *http.Client
	tokens *authtrip.Sources
}

// An order is one thing that was ordered, as the API says it.
type order struct {
	Number string    `json:"number"`
	Item   string    `json:"item"`
	Placed time.Time `json:"placed"`
	State  string    `json:"state"` // packing, sent or delivered
	Cents  int64     `json:"cents"`
}

// Open reports whether the order is still to come.
func (o order) Open() bool { return o.State != "delivered" }

// Label returns the state in words.
func (o order) Label() string {
	switch o.State {
	case "packing":
		return "Being packed"
	case "sent":
		return "On its way"
	case "delivered":
		return "Delivered"
	}
	return "Unknown"
}

// Price returns what it costs.
func (o order) Price() string { return fmt.Sprintf("€\u00a0%d.%02d", o.Cents/100, o.Cents%100) }

func newOrders(apiURL string, tokens *authtrip.Sources, log *slog.Logger) *orders {
	return &orders{
		url:    apiURL + "/orders",
		tokens: tokens,
		client: &http.Client{
			Timeout: 10 * time.Second,
			Transport: &authtrip.Transport{
				Source:  tokens,
				Origins: []string{apiURL}, // nobody else gets a token
				OnEvent: authtrip.LogEvents(log),
			},
		},
	}
}

// An apiError is an answer of the API that is not what was asked for.
type apiError struct{ status int }

func (e *apiError) Error() string { return fmt.Sprintf("the API answered with status %d", e.status) }

// list returns the orders of the session's user, newest first. If the error is
// authtrip.ErrReauthRequired the session's token is dead.
func (o *orders) list(ctx context.Context, sess *session) (list []order, err error) {
	ctx = authtrip.WithKey(ctx, sess.tokenKey())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		// The API has refused the token, and there was no other one. Whether there
		// can be one again is what the source says.
		if _, err := o.tokens.TokenContext(ctx); err != nil {
			return nil, err
		}
		fallthrough
	default:
		return nil, &apiError{resp.StatusCode}
	}
	var answer struct {
		Orders []order `json:"orders"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the API's answer: %w", err)
	}
	return answer.Orders, nil
}

// statusOf returns the status of a page that lacks what err is about: 503 where it
// may be there in a moment, 502 where somebody else made a mistake.
func statusOf(err error) int {
	if e, ok := errors.AsType[*apiError](err); ok && e.status != http.StatusServiceUnavailable {
		return http.StatusBadGateway
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return http.StatusBadGateway
	}
	return http.StatusServiceUnavailable
}
