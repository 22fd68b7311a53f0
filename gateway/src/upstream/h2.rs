//! Shared HTTP/2 connections.
