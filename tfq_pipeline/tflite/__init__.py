"""Flatbuffer in and out: conversion, rewrites, interpreters, inspection and verification."""
